"""Plots of an evaluation as PNG bytes, embedded in the report."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lib.evaluation.calibration_check import CalibrationCheck, MeanCalibrationCheck
from lib.evaluation.clinical_metrics import JOINT_MAX_SUV
from lib.evaluation.report.page import ACCENT_COLOUR, INK, MODEL_COLOUR, OTHER_COLOUR, SOFT
from lib.learning.tracking.progress import EpochRecord
from lib.metrics.agreement import Agreement
from lib.metrics.criteria import KEY_METRIC, METHOD_LABELS
from lib.metrics.verdict import Judgement

RESCALED_METRIC = "mae_suv_body_rescaled"
MAX_NAMED = 15  # labels of points; more would overlap


def draw_methods(judgement: Judgement) -> bytes:
    """Plot the mean and confidence interval of the key metric, of the model and of each baseline."""
    figure, axis = new_figure(5.2, 2.3)
    for row, method in enumerate(judgement.methods):
        interval = judgement.intervals[method][KEY_METRIC]
        colour = MODEL_COLOUR if method == "model" else OTHER_COLOUR
        y = -row
        axis.plot([interval.low, interval.high], [y, y], color=colour, linewidth=3.5, solid_capstyle="round")
        axis.plot([interval.mean], [y], "o", color=colour, markersize=8)
        axis.annotate(
            f"{interval.mean:.3f}", (interval.mean, y), xytext=(0, 7), textcoords="offset points", ha="center",
            color=INK, fontsize=8.5,
        )  # fmt: skip
    _label_methods(axis, judgement)
    axis.set_ylim(-len(judgement.methods) + 0.5, 0.75)
    axis.set_xlabel("body MAE [SUV], mean and 95 % confidence")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.25)
    return to_png(figure)


def draw_level(judgement: Judgement) -> bytes:
    """Plot each method's error before and after rescaling by each patient's optimal factor."""
    figure, axis = new_figure(4.3, 3.5)
    for row, method in enumerate(judgement.methods):
        error, rescaled = (judgement.intervals[method][name].mean for name in (KEY_METRIC, RESCALED_METRIC))
        colour = MODEL_COLOUR if method == "model" else OTHER_COLOUR
        axis.barh(-row, error, color=colour, alpha=0.3, height=0.62)
        axis.barh(-row, rescaled, color=colour, height=0.62)
        text = f"{rescaled:.3f} of {error:.3f}"
        axis.annotate(text, (error, -row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    _label_methods(axis, judgement)
    axis.margins(x=0.35)  # room for the numbers
    axis.set_xlim(left=0)
    axis.set_xlabel("body MAE [SUV]; dark: after rescaling")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return to_png(figure)


def _label_methods(axis: Any, judgement: Judgement) -> None:
    labels = [METHOD_LABELS[method] for method in judgement.methods]
    axis.set_yticks([-row for row in range(len(labels))], labels, fontsize=9.5)
    axis.get_yticklabels()[0].set_fontweight("bold")


def draw_agreement(
    real_suv: NDArray[np.float64], synthetic_suv: NDArray[np.float64], names: Sequence[str], agreement: Agreement
) -> bytes:
    """Plot the Bland-Altman diagram of one value per patient."""
    figure, axis = new_figure(4.3, 3.5)
    mean, difference = (real_suv + synthetic_suv) / 2, synthetic_suv - real_suv
    axis.plot(mean, difference, "o", color=MODEL_COLOUR, markersize=6, alpha=0.85)
    if len(names) <= MAX_NAMED:
        for name, x, y in zip(names, mean, difference, strict=True):
            axis.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=6.5, color=SOFT)
    axis.axhline(0, color=INK, linewidth=0.8)
    lines = (
        ("mean", agreement.mean_difference, "-"),
        ("+1.96 SD", agreement.high, "--"),
        ("-1.96 SD", agreement.low, "--"),
    )
    for name, value, style in lines:
        if np.isfinite(value):
            axis.axhline(value, color=ACCENT_COLOUR, linewidth=1.2, linestyle=style)
            axis.annotate(
                f"{name} {value:+.2f}", (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                textcoords="offset points", ha="right", fontsize=8, color=ACCENT_COLOUR,
            )  # fmt: skip
    axis.margins(x=0.12, y=0.18)
    axis.set_xlabel("mean of both, SUV averaged over the body")
    axis.set_ylabel("synthetic - real [SUV]")
    axis.grid(alpha=0.2)
    return to_png(figure)


def draw_joint(counts: NDArray[np.int64]) -> bytes:
    """Plot the joint histogram of voxels: real SUV on the x axis, synthetic SUV on the y axis."""
    figure, axis = new_figure(4.3, 3.5)
    extent = (0.0, JOINT_MAX_SUV, 0.0, JOINT_MAX_SUV)
    shown = np.ma.masked_equal(counts.T, 0)
    image = axis.imshow(
        shown, origin="lower", extent=extent, cmap="viridis", norm=LogNorm(1, max(2, int(counts.max()))), aspect="equal"
    )
    axis.plot(extent[:2], extent[:2], color=INK, linewidth=0.9, linestyle="--")
    figure.colorbar(image, ax=axis, label="voxels", shrink=0.9, pad=0.03)
    axis.set_xlabel("real SUV")
    axis.set_ylabel("synthetic SUV")
    return to_png(figure)


def draw_calibration(patients: Sequence[CalibrationCheck], overall: MeanCalibrationCheck) -> bytes:
    """Plot observed against expected error by tenths of the voxels: patients thin, their mean thick."""
    figure, axis = new_figure(4.3, 3.5)
    for check in patients:
        axis.plot(check.expected_suv, check.observed_suv, color=OTHER_COLOUR, linewidth=0.9, alpha=0.7)
    axis.plot(overall.expected_suv, overall.observed_suv, "o-", color=MODEL_COLOUR, linewidth=2.2, markersize=5)
    curves = [*patients, CalibrationCheck(overall.rank_correlation.mean, overall.expected_suv, overall.observed_suv)]
    highest = max(value for curve in curves for value in (*curve.expected_suv, *curve.observed_suv))
    axis.plot([0, highest], [0, highest], color=INK, linewidth=0.9, linestyle="--")
    axis.set_xlabel("expected error [SUV]")
    axis.set_ylabel("observed absolute error [SUV]")
    axis.grid(alpha=0.2)
    return to_png(figure)


def draw_history(histories: Sequence[Sequence[EpochRecord]], *, kept_epoch: int) -> bytes:
    """Plot training loss and validation error of each network over the epochs, with the selected epoch marked."""
    figure, axis = new_figure(4.3, 3.5)
    axis.set_xlabel("epoch")
    axis.set_ylabel("training loss", color=SOFT)
    right = None
    for history in histories:
        axis.plot([record.epoch for record in history], [record.loss for record in history], color=OTHER_COLOUR,
                  linewidth=1.6 if len(histories) == 1 else 0.9)  # fmt: skip
        validated = [(record.epoch, record.metrics[KEY_METRIC]) for record in history if KEY_METRIC in record.metrics]
        if validated:
            right = right or axis.twinx()
            right.plot(*zip(*validated, strict=True), color=MODEL_COLOUR, linewidth=2)
    if right is not None:
        right.set_ylabel("validation: body MAE [SUV]", color=MODEL_COLOUR)
        right.spines["top"].set_visible(False)
    axis.axvline(kept_epoch, color=ACCENT_COLOUR, linewidth=1, linestyle=":")
    axis.annotate(
        f"selected: epoch {kept_epoch}", (kept_epoch, 1), xycoords=("data", "axes fraction"), xytext=(-4, -10),
        textcoords="offset points", ha="right", fontsize=8, color=ACCENT_COLOUR,
    )  # fmt: skip
    axis.grid(alpha=0.2)
    return to_png(figure)


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Any]:
    """Return an empty figure and its axes in the report's style."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8.5)
    return figure, axis


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=170)
    return buffer.getvalue()
