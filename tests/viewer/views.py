"""The views of a CT: move the crosshair, read values, look at pixels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from playwright.sync_api import Page

PLANES = ("axial", "coronal", "sagittal")
VOXELS = [(30, 34, 12), (20, 30, 3), (5, 60, 23), (40, 28, 17)]  # column, row, slice


def go_to(page: Page, voxel: tuple[int, int, int]) -> None:
    """Move the crosshair with the three sliders; these CTs are axial."""
    for plane, index in zip(("sagittal", "coronal", "axial"), voxel, strict=True):
        slider = page.locator(f"#view-{plane} input")
        slider.evaluate("(slider, index) => { slider.value = index; slider.dispatchEvent(new Event('input')); }", index)
    assert page.get_attribute("#at-position", "data-value") == "{} {} {}".format(*voxel)


def value(page: Page, name: str) -> float:
    return float(str(page.get_attribute(f"#at-{name}", "data-value")))


def pixels(page: Page, plane: str, *, share: float = 0.0) -> np.ndarray:
    """Return the middle of a view, shape (rows, columns, RGB): half of it, or a square with that share of its side."""
    shot = Image.open(io.BytesIO(page.locator(f"#view-{plane}").screenshot())).convert("RGB")
    found = np.asarray(shot, dtype=np.float64)
    rows, columns, _ = found.shape
    up, across = rows // 4, columns // 4
    if share:
        up, across = (round((side - share * min(rows, columns)) / 2) for side in (rows, columns))
    return found[up : rows - up, across : columns - across]


def saturation(found: np.ndarray) -> np.ndarray:
    return found.max(axis=-1) - found.min(axis=-1)


def set_range(page: Page, identifier: str, number: float) -> None:
    page.locator(f"#{identifier}").evaluate(
        "(input, number) => { input.value = number; input.dispatchEvent(new Event('input')); }", number
    )
