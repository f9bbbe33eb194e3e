"""The figure of a nested cross-validation: the gain of each method over the median lookup, and of each patient."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lib.experiments.nested.measure import STRATA
from lib.experiments.nested.protocol import NestedResult
from lib.experiments.nested.table import LABELS, REFERENCE, difference, methods_of
from lib.metrics.baselines import BASELINE_NAMES

# Colours of Okabe and Ito's palette, safe for the colour-blind, with a marker each
STYLES = dict(zip(STRATA, (("#0072b2", "o"), ("#e69f00", "s"), ("#cc79a7", "^")), strict=True))


def draw_nested(result: NestedResult, path: Path, *, note: str = "") -> Path:
    """Plot each method's difference from the median lookup in MAE and PSNR, and each patient's MAE; return the PNG."""
    methods = {name: of for name, of in methods_of(result).items() if name not in BASELINE_NAMES}
    figure = Figure(figsize=(15, max(5.0, 0.35 * len(methods) + 2.5)), layout="constrained")
    FigureCanvasAgg(figure)
    mae, psnr, patients = figure.subplots(1, 3)
    for axis, metric in ((mae, "mae_suv_body"), (psnr, "psnr_db_body")):
        _draw_differences(axis, result, metric)
    _draw_patients(patients, result)
    if note:
        figure.supxlabel(note, fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def _draw_differences(axis: Axes, result: NestedResult, metric: str) -> None:
    methods = methods_of(result)
    shown = [name for name in methods if name not in BASELINE_NAMES]
    for row, name in enumerate(shown):
        change = difference(methods[name], methods[REFERENCE], metric, list(result.fold_of))
        axis.plot([change.low, change.high], [row, row], color="black")
        axis.plot(change.mean, row, "o", color="black")
    axis.set_yticks(range(len(shown)), shown)
    axis.invert_yaxis()
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set_xlabel(f"{LABELS[metric]}, difference from the median lookup, 95 % interval")
    axis.grid(alpha=0.3, axis="x")


def _draw_patients(axis: Axes, result: NestedResult) -> None:
    methods = methods_of(result)
    first, lookup = next(iter(methods.values())), methods[REFERENCE]
    for stratum in STRATA:
        of = [patient for patient, found in result.strata.items() if found == stratum]
        colour, marker = STYLES[stratum]
        axis.plot(
            [lookup[p]["mae_suv_body"] for p in of], [first[p]["mae_suv_body"] for p in of], marker,
            color=colour, label=f"{stratum} ({len(of)})",
        )  # fmt: skip
    end = max(axis.get_xlim()[1], axis.get_ylim()[1])
    axis.plot([0, end], [0, end], color="grey", linewidth=0.8)
    axis.set_xlabel(f"{LABELS['mae_suv_body']} of the median lookup")
    axis.set_ylabel(f"{LABELS['mae_suv_body']} of the model, out of fold")
    axis.legend()
    axis.grid(alpha=0.3)
