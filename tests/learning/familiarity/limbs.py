"""Made-up CTs of thighs, and their profiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from lib.learning.familiarity.profile import CTProfile, HeaderFacts, profile_of
from lib.learning.familiarity.reference import Reference, fit_reference
from lib.types import FloatArray

PATIENTS = 24
GE = HeaderFacts(ct_scanner="GE Discovery ST", kernel="STANDARD", sex="F")
PIXEL_MM, SLICE_MM = 3.0, 3.27


def limb(number: int) -> FloatArray:
    """A thigh: fat around muscle, bone right of the middle, on 12 slices of 48 x 48 pixels; HU."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[:48, :48] - 23.5
    radius = np.hypot(rows, columns)
    ct = np.full((12, 48, 48), -1000.0)
    size = random.uniform(18, 21)
    ct[:, radius < size] = -105
    ct[:, radius < size - random.uniform(2, 5)] = random.normal(50, 4)
    bone = np.hypot(rows - random.uniform(-2, 2), columns - random.uniform(3, 7))
    ct[:, bone < 4] = 600
    ct[:, bone < 2] = 100
    return np.asarray(ct + random.normal(0, 10, ct.shape), np.float32)


def profile(ct_hu: FloatArray, *, facts: HeaderFacts = GE, pixel_mm: float = PIXEL_MM, **raw: Any) -> CTProfile:
    clipped = np.clip(ct_hu, -1000, 1000)
    return profile_of(
        clipped,
        spacing_mm=(SLICE_MM, pixel_mm, pixel_mm),
        length_mm=len(ct_hu) * SLICE_MM,
        facts=facts,
        **{"pixel_mm": 0.98, "metal_ml": 0.0, **raw},
    )


def limb_reference() -> Reference:
    """The reference of 24 patients."""
    return fit_reference([(f"P{number}", profile(limb(number))) for number in range(PATIENTS)])
