"""The paper's seven figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lib.evaluation.report.images import LABEL, MIN_SUV_SHOWN, PET_COLOURS
from lib.learning.checkpoint import load_checkpoint
from lib.learning.dataset import split_pairs
from lib.learning.recipe import Recipe
from lib.learning.tracking.metrics_log import recorded_metric, sample
from lib.learning.tracking.progress import EpochRecord
from lib.learning.training import MODEL_FILE
from lib.learning.validation import synthesize_prepared
from lib.networks.precision import choose_device
from lib.pairing.prepared import PreparedSet

EXAMPLES = 4  # test slices of figure 1
CURVES = (
    (2, "loss", "loss"),
    (3, "ssim", "SSIM"),
    (4, "ms_ssim", "MS-SSIM"),
    (5, "vif", "VIF"),
    (6, "psnr_db", "PSNR [dB]"),
    (7, "mse", "MSE [SUV²]"),
)


def draw_curves(histories: Mapping[int, Sequence[EpochRecord]], out: Path, *, note: str = "") -> tuple[Path, ...]:
    """Write figures 2 to 7: a figure over the epochs, test solid and train dashed, a colour a cascade."""
    paths = []
    for number, name, words in CURVES:
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        anything = False
        for place, (stages, history) in enumerate(histories.items()):
            colour = mpl.colormaps["viridis"](place / max(1, len(histories) - 1) * 0.9)
            for side, style in (("test", "-"), ("train", "--")):
                values = [recorded_metric(record.recorded, side, name) for record in history]
                if np.isfinite(values).any():
                    anything = True
                    epochs = [record.epoch for record in history]
                    label = f"{stages} stage{'s' if stages > 1 else ''}" if side == "test" else None
                    axis.plot(epochs, values, style, color=colour, label=label, linewidth=1.4)
        axis.set_xlabel("epoch (solid: test, dashed: train)")
        axis.set_ylabel(words)
        axis.set_title(f"Figure {number}: {words}")
        axis.grid(alpha=0.3)
        if anything:
            axis.legend()
        else:
            words_why = "not defined for these images\n(MS-SSIM needs at least 176 pixels a side)"
            axis.text(0.5, 0.5, words_why, ha="center", va="center", transform=axis.transAxes)
        if note:
            figure.supxlabel(note, fontsize=6, color="#666666")
        path = out / f"figure-{number}-{name.replace('_', '-')}.png"
        figure.savefig(path, dpi=120)
        paths.append(path)
    return tuple(paths)


def draw_examples(
    prepared: PreparedSet, recipe: Recipe, runs: Mapping[int, Path], path: Path, *, device: str, note: str = ""
) -> Path:
    """Write figure 1: test slices, one a row: CT, real PET, and what each number of stages draws."""
    chosen = sample(split_pairs(prepared, recipe.split).test, EXAMPLES)
    rows = [(pair, index) for pair, indices in chosen for index in indices]
    columns = ["CT", "real PET", *(f"{stages} stage{'s' if stages > 1 else ''}" for stages in runs)]
    figure = Figure(figsize=(2.1 * len(columns), 2.2 * len(rows) + 0.8), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    torch_device = choose_device(device)
    cascades = [load_checkpoint(run / MODEL_FILE, device=torch_device) for run in runs.values()]
    for line, (pair, index) in zip(axes, rows, strict=True):
        arrays = prepared.arrays(pair)
        real = arrays.suv_bw(index)
        top_suv = max(MIN_SUV_SHOWN, float(real.max()))
        drawn = [
            synthesize_prepared(cascade, arrays, [index], card.recipe, device=torch_device)[0]
            for cascade, card in cascades
        ]
        line[0].imshow(arrays.ct_hu(index), cmap="gray", vmin=-160, vmax=240)
        for axis, image in zip(line[1:], [real, *drawn], strict=True):
            axis.imshow(image, cmap=PET_COLOURS, vmin=0, vmax=top_suv)
    for axis, words in zip(axes[0], columns, strict=True):
        axis.set_title(words, color="white", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(f"Figure 1: synthetic beside real PET. {LABEL}", color="white", fontsize=10)
    if note:
        figure.supxlabel(note, fontsize=6, color="#bbbbbb")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
