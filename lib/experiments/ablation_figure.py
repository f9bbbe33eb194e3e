"""The picture of an ablation: what each choice changes, and what more patients would bring."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lib.experiments.ablation import Ablation
from lib.experiments.ablation_table import difference, mean

MEASURE, WORDS = "mae_suv_body", "body MAE [SUV]"
CURVE_TOPIC = "learning curve"
REFERENCE_BASELINE = "hu_median"


def draw_ablation(ablation: Ablation, path: Path, *, note: str = "") -> Path:
    """Draw each choice's change in body MAE with its interval, and error against patients; return the PNG."""
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
    shown = [result for result in ablation.results[1:] if result.choice.topic != CURVE_TOPIC]
    for place, result in enumerate(shown):
        of = difference(result.model, reference, MEASURE)
        colour = "tab:green" if of.high < 0 else "tab:red" if of.low > 0 else "grey"
        axis.plot([of.low, of.high], [place, place], color=colour)
        axis.plot(of.mean, place, "o", color=colour)
    axis.set_yticks(range(len(shown)), [result.choice.name for result in shown])
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel(f"change of {WORDS} against the reference, 95 % interval; left is better")
    axis.set_title("One choice changed at a time")
    axis.grid(alpha=0.3, axis="x")


def _draw_curve(axis: Axes, ablation: Ablation) -> None:
    reference = ablation.results[0]
    points = sorted(
        (result.learners, mean(result.model, MEASURE))
        for result in ablation.results
        if result is reference or result.choice.topic == CURVE_TOPIC
    )
    axis.plot(*zip(*points, strict=True), "o-", label="network")
    axis.axhline(mean(ablation.baselines[REFERENCE_BASELINE], MEASURE), color="grey", linestyle="--", label=f"{REFERENCE_BASELINE}, all patients")
    axis.set_xlabel("training patients")
    axis.set_ylabel(WORDS)
    axis.set_title("Learning curve")
    axis.legend()
    axis.grid(alpha=0.3)
