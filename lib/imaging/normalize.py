"""Intensity windows: conversion between physical units and the unit range of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lib.errors import RecipeError
from lib.types import FloatArray

Curve = Literal["linear", "sqrt"]


@dataclass(frozen=True)
class Windows:
    """Conversion of HU and SUV to the unit range and back.

    Attributes:
        ct_low_hu, ct_high_hu: HU that map to 0 and 1; values outside are clipped.
        pet_high_suv: SUVbw that maps to 1; 0 maps to 0. Higher values are not clipped: a bladder may exceed 1.
        pet_curve: `linear`, or `sqrt` (more resolution for the low uptake of normal tissue).
        bits: 16 keeps floating point; 8 clips and rounds both to 256 levels, as an 8-bit image does.
    """

    ct_low_hu: float = -1000.0
    ct_high_hu: float = 1000.0
    pet_high_suv: float = 20.0
    pet_curve: Curve = "sqrt"
    bits: int = 16

    def __post_init__(self) -> None:
        if not self.ct_low_hu < self.ct_high_hu:
            raise RecipeError(f"windows.ct_low_hu {self.ct_low_hu} must be below windows.ct_high_hu {self.ct_high_hu}")
        if not self.pet_high_suv > 0:
            raise RecipeError(f"windows.pet_high_suv must be above 0, found {self.pet_high_suv}")
        if self.pet_curve not in ("linear", "sqrt"):
            raise RecipeError(f"windows.pet_curve must be linear or sqrt, found {self.pet_curve!r}")
        if self.bits not in (8, 16):
            raise RecipeError(f"windows.bits must be 8 (image levels) or 16 (floating point), found {self.bits}")


def normalize_ct(ct_hu: FloatArray, windows: Windows) -> FloatArray:
    """Return HU scaled to 0..1 and clipped to the window, same shape, float32."""
    unit = (np.clip(ct_hu, windows.ct_low_hu, windows.ct_high_hu) - windows.ct_low_hu) / (
        windows.ct_high_hu - windows.ct_low_hu
    )
    return _levels(unit.astype(np.float32), windows)


def normalize_pet(suv_bw: FloatArray, windows: Windows) -> FloatArray:
    """Return SUVbw on the recipe's curve, 0 or above, same shape, float32."""
    unit = np.maximum(suv_bw, 0) / windows.pet_high_suv
    if windows.pet_curve == "sqrt":
        unit = np.sqrt(unit)
    return _levels(unit.astype(np.float32), windows)


def denormalize_ct(unit: FloatArray, windows: Windows) -> FloatArray:
    """Return the HU of values from 0 to 1: the inverse of `normalize_ct` inside the window."""
    return (unit * (windows.ct_high_hu - windows.ct_low_hu) + windows.ct_low_hu).astype(np.float32)


def denormalize_pet(unit: FloatArray, windows: Windows) -> FloatArray:
    """Return the SUVbw of values on the recipe's curve: the inverse of `normalize_pet`; values below 0 count as 0."""
    positive = np.maximum(unit, 0)
    if windows.pet_curve == "sqrt":
        positive = positive * positive
    return (positive * windows.pet_high_suv).astype(np.float32)


def _levels(unit: FloatArray, windows: Windows) -> FloatArray:
    if windows.bits == 16:
        return unit
    return (np.round(np.clip(unit, 0, 1) * 255) / 255).astype(np.float32)
