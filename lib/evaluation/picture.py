"""Pictures a person can judge by: CT, synthetic PET, real PET, fusion and error side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lib.evaluation.compare import AlignedVolumes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL = "SYNTHETIC PET: research only, NOT FOR DIAGNOSIS"
CT_WINDOW_HU = (-160.0, 240.0)  # the usual soft-tissue window, centre 40, width 400
LEAST_SUV_SHOWN = 3.0  # upper end of the PET's colours where nothing is hot
PET_COLOURS = "inferno"


def hottest_slice(volumes: AlignedVolumes) -> int:
    """Return the slice whose hottest spot (1 % of its pixels) is hottest in the real PET."""
    inside = np.where(volumes.body, volumes.real_suv, 0)
    return int(np.percentile(inside, 99, axis=(1, 2)).argmax())


def draw_comparison(
    volumes: AlignedVolumes, path: Path, *, title: str, slices: tuple[int, ...] = (), note: str = ""
) -> Path:
    """Write a PNG with one row a slice: CT, synthetic PET, real PET, synthetic fused over CT, error.

    Args:
        volumes: On one grid.
        path: Where to write.
        title: Who and which model.
        slices: Which; the hottest and the middle one when not given.
        note: A line below, such as the data's attribution.
    """
    slices = slices or tuple(sorted({hottest_slice(volumes), len(volumes.real_suv) // 2}))
    top_suv = max(LEAST_SUV_SHOWN, float(np.percentile(volumes.real_suv[volumes.measured], 99.8)))
    rows, columns = volumes.real_suv.shape[1:]
    aspect = volumes.pixel_mm[0] / volumes.pixel_mm[1]
    height = 3.0 * rows / columns * aspect
    figure = Figure(figsize=(16, height * len(slices) + 1.1), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(slices), 5, squeeze=False)
    for line, k in zip(axes, slices, strict=True):
        ct, synthetic, real = volumes.ct_hu[k], volumes.synthetic_suv[k], volumes.real_suv[k]
        error = np.where(volumes.measured[k], synthetic - real, 0)
        _show(line[0], ct, f"CT, slice {k}", aspect, cmap="gray", limits=CT_WINDOW_HU)
        _show(line[1], synthetic, "synthetic PET", aspect, cmap=PET_COLOURS, limits=(0, top_suv))
        pet = _show(line[2], real, "real PET", aspect, cmap=PET_COLOURS, limits=(0, top_suv))
        _show(line[3], ct, "synthetic PET over CT", aspect, cmap="gray", limits=CT_WINDOW_HU)
        opacity = np.clip(synthetic / top_suv, 0, 1) * 0.7
        line[3].imshow(synthetic, cmap=PET_COLOURS, vmin=0, vmax=top_suv, alpha=opacity, aspect=aspect)
        difference = _show(
            line[4], error, "synthetic - real", aspect, cmap="RdBu_r", limits=(-top_suv / 2, top_suv / 2)
        )
        for image, axis in ((pet, line[2]), (difference, line[4])):
            bar = figure.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
            bar.set_label("SUVbw [g/mL]", color="white", fontsize=8)
            bar.ax.tick_params(colors="white", labelsize=7)
    figure.suptitle(f"{title}\n{LABEL}", color="white", fontsize=12)
    if note:
        figure.text(0.5, 0.004, note, color="#bbbbbb", fontsize=7, ha="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"savefig.facecolor": "black"}):
        figure.savefig(path, dpi=110)
    return path


def _show(
    axis: Axes,
    image: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    title: str,
    aspect: float,
    *,
    cmap: str,
    limits: tuple[float, float],
) -> mpl.image.AxesImage:
    axis.set_title(title, color="white", fontsize=9)
    axis.set_axis_off()
    return axis.imshow(image, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect=aspect)
