"""The figure of an ablation: the effect of each variant, and a learning curve over training patients."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lib.experiments.ablation import Ablation
from lib.experiments.ablation_table import difference, mean

METRIC, LABEL = "mae_suv_body", "body MAE [SUV]"
CURVE_TOPIC = "learning curve"
REFERENCE_BASELINE = "hu_median"


def draw_ablation(ablation: Ablation, path: Path, *, note: str = "") -> Path:
    """Plot each variant's change in body MAE with its interval, and body MAE against patients; return the PNG."""
    figure = Figure(figsize=(13, 0.3 * len(ablation.results) + 2.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    _draw_changes(left, ablation)
    _draw_curve(right, ablation)
    if note:
        figure.supxlabel(note, fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def _draw_changes(axis: Axes, ablation: Ablation) -> None:
    reference = ablation.results[0].model
    shown = [result for result in ablation.results[1:] if result.variant.topic != CURVE_TOPIC]
    for row, result in enumerate(shown):
        change = difference(result.model, reference, METRIC)
        colour = "tab:green" if change.high < 0 else "tab:red" if change.low > 0 else "grey"
        axis.plot([change.low, change.high], [row, row], color=colour)
        axis.plot(change.mean, row, "o", color=colour)
    axis.set_yticks(range(len(shown)), [result.variant.name for result in shown])
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel(f"change of {LABEL} from the reference, 95 % interval; negative is better")
    axis.set_title("One setting changed at a time")
    axis.grid(alpha=0.3, axis="x")


def _draw_curve(axis: Axes, ablation: Ablation) -> None:
    reference = ablation.results[0]
    points = sorted(
        (result.training_patients, mean(result.model, METRIC))
        for result in ablation.results
        if result is reference or result.variant.topic == CURVE_TOPIC
    )
    axis.plot(*zip(*points, strict=True), "o-", label="network")
    baseline = mean(ablation.baselines[REFERENCE_BASELINE], METRIC)
    axis.axhline(baseline, color="grey", linestyle="--", label=f"{REFERENCE_BASELINE}, all patients")
    axis.set_xlabel("training patients")
    axis.set_ylabel(LABEL)
    axis.set_title("Learning curve")
    axis.legend()
    axis.grid(alpha=0.3)
