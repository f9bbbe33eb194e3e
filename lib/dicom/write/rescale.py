"""SUV as DICOM stores it: 16 bits, and a slope of each slice's own."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context

import numpy as np
from numpy.typing import NDArray

from lib.errors import DicomError
from lib.types import FloatArray

MAX_STORED = 65535  # 16 bits unsigned
MIN_RESOLUTION = 30_000  # rounding stays below the slice's range divided by this
SLOPE_OF_ZEROS = "0.0001"  # of a slice of zeros: any, but not whole
WIDEN = 1 + 1e-6
DIGITS = 10  # of a decimal string that may need a sign and an exponent of two figures beside them


@dataclass(frozen=True, eq=False)
class StoredSlice:
    """Numbers as they lie in the file, (R, C) unsigned 16 bits: SUV = stored x slope + intercept (decimal strings)."""

    stored: NDArray[np.uint16]
    rescale_slope: str
    rescale_intercept: str


def store_slice(suv_bw: FloatArray) -> StoredSlice:
    """Return one slice, (R, C), in 16 bits, rounded by less than 1/30000 of its range.

    The intercept is 0, as it "always" is for PET (PS3.3 C.8.9.4), unless that would round too much: a slice without
    air, whose least value is above three quarters of its largest, or one below 0, which our models do not draw.

    The slope is never a whole number: ITK, and what is built on it, reads a series that begins with one as integers.

    Raises:
        DicomError: NaN or infinite values.
    """
    if not np.isfinite(suv_bw).all():
        raise DicomError("a slice holds NaN or infinite SUV, which DICOM cannot store; is the model damaged?")
    low, high = float(suv_bw.min()), float(suv_bw.max())
    from_zero = low >= 0 and high / (2 * MAX_STORED) < (high - low) / MIN_RESOLUTION
    constant = low == high >= 0  # needs no rounding at all
    intercept = "0" if from_zero or constant else _decimal_below(low)
    slope = _slope(high - float(intercept))
    scaled = np.rint((suv_bw.astype(np.float64) - float(intercept)) / float(slope))
    return StoredSlice(np.clip(scaled, 0, MAX_STORED).astype(np.uint16), slope, intercept)


def _decimal_below(number: float) -> str:
    """Return the largest decimal string of ten digits that is not above a number: 10 digits, sign and exponent fit 16.

    A range that float32 can hold is at least 6e-8 of its values, so that the tenth digit is a hundredth of it at most.
    """
    below = Context(prec=DIGITS, rounding=ROUND_FLOOR).create_decimal(number)
    return f"{float(below):.{DIGITS}g}"


def _slope(span: float) -> str:
    if span <= 0:
        return SLOPE_OF_ZEROS
    slope = f"{span / MAX_STORED:.10g}"
    return slope if not float(slope).is_integer() else f"{span / MAX_STORED * WIDEN:.10g}"
