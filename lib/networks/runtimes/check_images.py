"""Fixed CT images on which runtimes are compared: a body with lungs, bones, organs and texture; no patient's data."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from lib.types import BoolArray, FloatArray

Array = NDArray[np.float64]

SIZE = 64  # pixels
IMAGES = 4
AIR_HU, FAT_HU, MUSCLE_HU, LUNG_HU, BONE_HU = -1000.0, -100.0, 50.0, -800.0, 600.0


@cache
def check_ct_hu(context_slices: int) -> FloatArray:
    """Return (4, context_slices, 64, 64), HU, float32; the same numbers on every machine."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    images = np.full((IMAGES, context_slices, SIZE, SIZE), AIR_HU, dtype=np.float32)
    for image, slices in enumerate(images):
        for number, ct_hu in enumerate(slices):
            shift = 0.02 * (number - context_slices // 2)
            ct_hu[_ellipse(rows, columns, (0, 0), (0.7 + shift, 0.9))] = FAT_HU
            ct_hu[_ellipse(rows, columns, (0, 0), (0.6 + shift, 0.8))] = MUSCLE_HU
            if image % 2:
                for side in (-0.4, 0.4):
                    ct_hu[_ellipse(rows, columns, (-0.05, side), (0.35 + shift, 0.25))] = LUNG_HU
            ct_hu[_ellipse(rows, columns, (0.4, 0), (0.12, 0.12 + shift))] = BONE_HU
            body = ct_hu > AIR_HU
            texture = _smooth(random.normal(0, 60, (SIZE, SIZE)), passes=image + 1)
            ct_hu[body] += texture[body]
    return images


def body_of(ct_hu: FloatArray) -> BoolArray:
    """Return where the predicted slice of each image shows the body, lungs included, (4, 64, 64)."""
    body: BoolArray = ct_hu[:, ct_hu.shape[1] // 2] > AIR_HU
    return body


def _ellipse(rows: Array, columns: Array, centre: tuple[float, float], radii: tuple[float, float]) -> BoolArray:
    return ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1


def _smooth(texture: Array, *, passes: int) -> Array:
    for _ in range(passes):
        shifted = [np.roll(texture, shift, axis) for axis in (0, 1) for shift in (-1, 0, 1)]
        texture = np.mean(shifted, axis=0)
    return texture
