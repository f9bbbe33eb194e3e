"""Conversion of SUV to 16-bit stored values with a slope per slice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context

import numpy as np
from numpy.typing import NDArray

from lib.errors import DicomError
from lib.types import FloatArray

MAX_STORED = 65535  # 16 bits unsigned
MIN_RESOLUTION = 30_000  # the slice's range divided by the maximum rounding error
SLOPE_OF_ZEROS = "0.0001"  # of a slice of zeros: any number but an integer
WIDEN = 1 + 1e-6
DIGITS = 10  # of a decimal string with a sign and a two-digit exponent


@dataclass(frozen=True, eq=False)
class StoredSlice:
    """Stored values, (R, C) unsigned 16 bits: SUV = stored x slope + intercept (decimal strings)."""

    stored: NDArray[np.uint16]
    rescale_slope: str
    rescale_intercept: str


def store_slice(suv_bw: FloatArray) -> StoredSlice:
    """Return one slice, (R, C), in 16 bits, with a rounding error below 1/30000 of its range.

    The intercept is 0, as PS3.3 C.8.9.4 requires for PET, unless the rounding error would be too large: in a slice
    without air, whose minimum is above three quarters of its maximum, or with negative values.

    The slope is never an integer, because ITK reads a series whose first slope is an integer as integers.

    Raises:
        DicomError: The slice has NaN or infinite values.
    """
    low, high = float(suv_bw.min()), float(suv_bw.max())  # NaN if one of them is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DicomError("a slice has NaN or infinite SUV, expected finite values; the model may be damaged")
    from_zero = low >= 0 and high / (2 * MAX_STORED) < (high - low) / MIN_RESOLUTION
    constant = low == high >= 0  # no rounding
    intercept = "0" if from_zero or constant else _decimal_below(low)
    slope = _slope(high - float(intercept))
    # in place, since a slice of float64 takes longer to allocate than to divide
    scaled = np.subtract(suv_bw, float(intercept), dtype=np.float64) if float(intercept) else suv_bw.astype(np.float64)
    np.divide(scaled, float(slope), out=scaled)
    np.rint(scaled, out=scaled)  # 0 to 65535: the slope has ten digits, and the intercept is not above the minimum
    return StoredSlice(scaled.astype(np.uint16), slope, intercept)


def _decimal_below(number: float) -> str:
    """Return the largest decimal string of 10 digits that is not above a number; with sign and exponent it fits 16.

    A range in float32 is at least 6e-8 of its values, so that the tenth digit is at most a hundredth of it.
    """
    below = Context(prec=DIGITS, rounding=ROUND_FLOOR).create_decimal(number)
    return f"{float(below):.{DIGITS}g}"


def _slope(span: float) -> str:
    if span <= 0:
        return SLOPE_OF_ZEROS
    slope = f"{span / MAX_STORED:.10g}"
    return slope if not float(slope).is_integer() else f"{span / MAX_STORED * WIDEN:.10g}"
