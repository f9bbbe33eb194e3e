"""Images of a synthetic and a real PET: slices side by side, and maximum intensity projections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lib.evaluation.slice_metrics import AlignedVolumes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL = "SYNTHETIC PET: research only, NOT FOR DIAGNOSIS"
CT_WINDOW_HU = (-160.0, 240.0)  # the usual soft-tissue window, centre 40, width 400
MIN_SUV_SHOWN = 3.0  # lower bound for the upper end of the PET's colour scale
PET_COLOURS = "inferno"
TUMOUR_COLOUR = "#36d7e8"  # outline of the contoured tumour
MIN_SLICE_DISTANCE = 3  # closer slices look alike
WIDTH_INCHES, MAX_HEIGHT_INCHES, DOTS_PER_INCH = 16.0, 12.0, 110


def hottest_slice(volumes: AlignedVolumes) -> int:
    """Return the slice with the highest 99th percentile of the real SUV inside the body."""
    inside = np.where(volumes.body, volumes.real_suv, 0)
    return int(np.percentile(inside, 99, axis=(1, 2)).argmax())


def draw_comparison(
    volumes: AlignedVolumes, path: Path, *, title: str, slices: tuple[int, ...] = (), note: str = ""
) -> Path:
    """Write a PNG with one row per slice and return its path.

    Panels are CT, synthetic PET, external programs, real PET, synthetic PET over CT, and error.

    Args:
        volumes: On one grid.
        path: Output file.
        title: Patient and model.
        slices: Slice indices; by default the hottest, and the one with the largest tumour area or the middle one.
        note: Line below the images, such as the data's attribution.
    """
    slices = slices or _select_slices(volumes)
    top_suv = _top_suv(volumes)
    rows, columns = volumes.real_suv.shape[1:]
    aspect = volumes.pixel_mm[0] / volumes.pixel_mm[1]
    panels = 5 + len(volumes.external_suv)
    height = 15.0 / panels * rows / columns * aspect
    figure = _figure(height * len(slices) + 1.1)
    axes = figure.subplots(len(slices), panels, squeeze=False)
    for line, k in zip(axes, slices, strict=True):
        ct, synthetic, real = volumes.ct_hu[k], volumes.synthetic_suv[k], volumes.real_suv[k]
        error = np.where(volumes.measured[k], synthetic - real, 0)
        _show(line[0], ct, f"CT, slice {k}", aspect, cmap="gray", limits=CT_WINDOW_HU)
        _show(line[1], synthetic, "synthetic PET", aspect, cmap=PET_COLOURS, limits=(0, top_suv))
        for axis, (name, suv_bw) in zip(line[2:-3], volumes.external_suv.items(), strict=True):
            _show(axis, suv_bw[k], name, aspect, cmap=PET_COLOURS, limits=(0, top_suv))
        pet = _show(line[-3], real, "real PET", aspect, cmap=PET_COLOURS, limits=(0, top_suv))
        _show(line[-2], ct, "synthetic PET over CT", aspect, cmap="gray", limits=CT_WINDOW_HU)
        opacity = np.clip(synthetic / top_suv, 0, 1) * 0.7
        line[-2].imshow(synthetic, cmap=PET_COLOURS, vmin=0, vmax=top_suv, alpha=opacity, aspect=aspect)
        difference = _show(
            line[-1], error, "synthetic - real", aspect, cmap="RdBu_r", limits=(-top_suv / 2, top_suv / 2)
        )
        for image, axis in ((pet, line[-3]), (difference, line[-1])):
            bar = figure.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
            bar.set_label("SUVbw [g/mL]", color="white", fontsize=8)
            bar.ax.tick_params(colors="white", labelsize=7)
        if volumes.tumour is not None and volumes.tumour[k].any():
            for axis in line:
                axis.contour(volumes.tumour[k], levels=[0.5], colors=TUMOUR_COLOUR, linewidths=0.9)
    return _save(figure, path, title=title, note=note)


def draw_projections(volumes: AlignedVolumes, path: Path, *, title: str, note: str = "") -> Path:
    """Write a PNG of maximum intensity projections, synthetic and real, from the front and the side; return its path.

    Args:
        volumes: On one grid.
        path: Output file.
        title: Patient and model.
        note: Line below the images, such as the data's attribution.
    """
    slice_mm, row_mm, column_mm = volumes.geometry.spacing_mm
    slices, rows, columns = volumes.geometry.shape
    widths_mm = (columns * column_mm,) * 2 + (rows * row_mm,) * 2
    figure = _figure(min(MAX_HEIGHT_INCHES, WIDTH_INCHES * slices * slice_mm / sum(widths_mm)) + 1.1)
    axes = figure.subplots(1, 4, width_ratios=widths_mm)
    head_up: Literal["lower", "upper"] = "lower" if volumes.geometry.normal[2] > 0 else "upper"
    synthetic = np.where(volumes.measured, volumes.synthetic_suv, 0)
    panels = [
        (side, name, suv.max(axis=axis), slice_mm / across_mm)
        for side, axis, across_mm in (("front", 1, column_mm), ("side", 2, row_mm))
        for name, suv in (("synthetic", synthetic), ("real", volumes.real_suv))
    ]
    limits = (0.0, max(_top_suv(volumes), float(np.percentile(panels[1][2], 99))))
    for axis, (side, name, projection, aspect) in zip(axes, panels, strict=True):
        heading = f"{name} PET, MIP, {side} view"
        shown = _show(axis, projection, heading, aspect, cmap="gray_r", limits=limits, origin=head_up)
    bar = figure.colorbar(shown, ax=list(axes), fraction=0.012, pad=0.01)
    bar.set_label("SUVbw [g/mL]", color="white", fontsize=8)
    bar.ax.tick_params(colors="white", labelsize=7)
    return _save(figure, path, title=title, note=note)


def _select_slices(volumes: AlignedVolumes) -> tuple[int, ...]:
    """Return the hottest slice and a different one: that with the largest tumour area, or the middle one."""
    hottest, middle = hottest_slice(volumes), len(volumes.real_suv) // 2
    others = [middle] if volumes.tumour is None else [int(volumes.tumour.sum(axis=(1, 2)).argmax()), middle]
    other = next((k for k in others if abs(k - hottest) >= MIN_SLICE_DISTANCE), others[0])
    return tuple(sorted({hottest, other}))


def _top_suv(volumes: AlignedVolumes) -> float:
    return max(MIN_SUV_SHOWN, float(np.percentile(volumes.real_suv[volumes.measured], 99.8)))


def _figure(height_inches: float) -> Figure:
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained", facecolor="black")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path, *, title: str, note: str) -> Path:
    figure.suptitle(f"{title}\n{LABEL}", color="white", fontsize=12)
    if note:
        figure.text(0.5, 0.004, note, color="#bbbbbb", fontsize=7, ha="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"savefig.facecolor": "black"}):
        figure.savefig(path, dpi=DOTS_PER_INCH)
    return path


def _show(
    axis: Axes,
    image: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    title: str,
    aspect: float,
    *,
    cmap: str,
    limits: tuple[float, float],
    origin: Literal["lower", "upper"] = "upper",
) -> mpl.image.AxesImage:
    axis.set_title(title, color="white", fontsize=9, y=1.0)  # matplotlib need not look for it above hidden ticks
    axis.set_axis_off()
    return axis.imshow(image, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect=aspect, origin=origin)
