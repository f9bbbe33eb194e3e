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
from lib.learning.dataset import divide
from lib.learning.recipe import Recipe
from lib.learning.tracking.metrics_log import figures_of, sample
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
    """Write figures 2 to 7: metrics over the epochs, test solid and train dashed, one colour per cascade."""
    paths = []
    for number, name, label in CURVES:
        figure = Figure(figsize=(8, 5), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        has_values = False
        for index, (stages, history) in enumerate(histories.items()):
            colour = mpl.colormaps["viridis"](index / max(1, len(histories) - 1) * 0.9)
            for side, style in (("test", "-"), ("train", "--")):
                values = [figures_of(record.recorded, side, name) for record in history]
                if np.isfinite(values).any():
                    has_values = True
                    epochs = [record.epoch for record in history]
                    legend = f"{stages} stage{'s' if stages > 1 else ''}" if side == "test" else None
                    axis.plot(epochs, values, style, color=colour, label=legend, linewidth=1.4)
        axis.set_xlabel("epoch (solid: test, dashed: train)")
        axis.set_ylabel(label)
        axis.set_title(f"Figure {number}: {label}")
        axis.grid(alpha=0.3)
        if has_values:
            axis.legend()
        else:
            message = "undefined for these images\n(MS-SSIM needs at least 176 pixels a side)"
            axis.text(0.5, 0.5, message, ha="center", va="center", transform=axis.transAxes)
        if note:
            figure.supxlabel(note, fontsize=6, color="#666666")
        path = out / f"figure-{number}-{name.replace('_', '-')}.png"
        figure.savefig(path, dpi=120)
        paths.append(path)
    return tuple(paths)


def draw_examples(
    prepared: PreparedSet, recipe: Recipe, runs: Mapping[int, Path], path: Path, *, device: str, note: str = ""
) -> Path:
    """Write figure 1: one test slice per row, with the CT, the real PET, and the PET of each number of stages."""
    examples = sample(divide(prepared, recipe.split).test, EXAMPLES)
    rows = [(pair, index) for pair, indices in examples for index in indices]
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
        predictions = [
            synthesize_prepared(cascade, arrays, [index], card.recipe, device=torch_device)[0]
            for cascade, card in cascades
        ]
        line[0].imshow(arrays.ct_hu(index), cmap="gray", vmin=-160, vmax=240)
        for axis, image in zip(line[1:], [real, *predictions], strict=True):
            axis.imshow(image, cmap=PET_COLOURS, vmin=0, vmax=top_suv)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, color="white", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(f"Figure 1: synthetic and real PET. {LABEL}", color="white", fontsize=10)
    if note:
        figure.supxlabel(note, fontsize=6, color="#bbbbbb")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
