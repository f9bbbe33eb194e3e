"""Plots of a cohort as PNG bytes, in the style of the evaluation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lib.cohort.comparison import SUV_EDGES
from lib.evaluation.report.page import MODEL_COLOUR, OTHER_COLOUR
from lib.evaluation.report.plots import new_figure, to_png

OPEN_BIN_SUV = 25.0  # drawn end of the last bin, which is open
BINS = 30


def draw_voxels(counts: Sequence[int]) -> bytes:
    """Plot the share of the voxels of all synthetic PETs by SUV, on a logarithmic scale."""
    figure, axis = new_figure(5.2, 3.1)
    edges = [*SUV_EDGES, OPEN_BIN_SUV]
    shares = np.array(counts) / max(sum(counts), 1) / np.diff(edges)
    axis.stairs(shares, edges, fill=True, color=MODEL_COLOUR)
    axis.set_yscale("log")
    axis.set_xlabel("SUVbw (the last bin is open)")
    axis.set_ylabel("share of voxels per SUV")
    return to_png(figure)


def draw_studies(mean_suv: Sequence[float], max_suv: Sequence[float]) -> bytes:
    """Plot the distributions of the studies' mean and maximum SUV."""
    figure, axis = new_figure(5.2, 3.1)
    limit = max(*max_suv, 1.0) if max_suv else 1.0
    bins = np.linspace(0, limit, BINS + 1)
    axis.hist(max_suv, bins=bins, color=OTHER_COLOUR, label="maximum")
    axis.hist(mean_suv, bins=bins, color=MODEL_COLOUR, label="mean")
    axis.set_xlabel("SUVbw of a study")
    axis.set_ylabel("studies")
    axis.legend(frameon=False, fontsize=8.5)
    return to_png(figure)


def draw_steps(seconds: Mapping[str, tuple[float, float]]) -> bytes:
    """Plot median and 95th percentile of the duration of each step."""
    figure, axis = new_figure(5.2, 2.3)
    for row, (median, high) in enumerate(seconds.values()):
        axis.barh(-row, high, color=MODEL_COLOUR, alpha=0.3, height=0.62)
        axis.barh(-row, median, color=MODEL_COLOUR, height=0.62)
        axis.annotate(
            f"{median:.2f} s, 95 %: {high:.2f} s", (high, -row), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=8,
        )  # fmt: skip
    axis.set_yticks([-row for row in range(len(seconds))], list(seconds), fontsize=9.5)
    axis.set_xlim(0, 1.45 * max(high for _, high in seconds.values()) or 1)
    axis.set_xlabel("seconds a study")
    return to_png(figure)
