"""Stored values of uncompressed pixel data: bits, sign and byte order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from lib.dicom.attributes.elements import integer_in
from lib.dicom.attributes.transfer_syntax import transfer_syntax
from lib.errors import DicomError, MissingAttributeError

NUMBER_OF_FRAMES, BITS_ALLOCATED = 0x00280008, 0x00280100
BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION = 0x00280101, 0x00280102, 0x00280103
PADDING_VALUE, PADDING_LIMIT = 0x00280120, 0x00280121
FLOAT_PIXELS, DOUBLE_PIXELS, PIXEL_DATA = 0x7FE00008, 0x7FE00009, 0x7FE00010
STORED_TAGS = [
    BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION, PADDING_VALUE, PADDING_LIMIT, FLOAT_PIXELS,
    DOUBLE_PIXELS, PIXEL_DATA,
]  # fmt: skip
ALLOCATED = (8, 16, 32)
MAX_MATRIX = 4096  # rows or columns; scanners reconstruct 512 to 2,048
LEFT_ALIGNED_BITS = (10, 12, 14)  # as ACR-NEMA scanners stored them; DICOM has HighBit one below BitsStored


@dataclass(frozen=True)
class StoredFormat:
    """The format of the stored values of a slice.

    Attributes:
        shape: (rows, columns).
        allocated, bits: BitsAllocated, BitsStored.
        high_bit: HighBit, the position of the most significant stored bit.
        is_signed: Whether PixelRepresentation is 1; None if it is missing.
        big_endian: Whether the byte order is big endian.
    """

    shape: tuple[int, int]
    allocated: int
    bits: int
    high_bit: int
    is_signed: bool | None
    big_endian: bool

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest value of BitsStored bits."""
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.is_signed else (0, (1 << self.bits) - 1)

    @property
    def layout(self) -> tuple[bool | None, int]:
        """The properties that all slices of a series share: the sign, and the unused bits above the stored ones."""
        return self.is_signed, self.high_bit - self.bits

    @classmethod
    def of(cls, dataset: Dataset, shape: tuple[int, int]) -> StoredFormat:
        """Return the format that a header describes.

        Raises:
            DicomError: The bits are invalid, or the pixels are floating-point numbers.
        """
        if max(shape) > MAX_MATRIX:
            raise DicomError(
                f"Rows {shape[0]} and Columns {shape[1]}, expected at most {MAX_MATRIX}: no CT or PET slice is larger"
            )
        allocated = integer_in(dataset, BITS_ALLOCATED)
        if FLOAT_PIXELS in dataset or DOUBLE_PIXELS in dataset:
            raise DicomError("FloatPixelData or DoubleFloatPixelData, expected PixelData; export integers")
        if allocated not in ALLOCATED:
            raise DicomError(f"BitsAllocated {allocated}, expected 8, 16 or 32")
        bits = integer_in(dataset, BITS_STORED, allocated)
        high_bit = integer_in(dataset, HIGH_BIT, bits - 1)
        if not 0 < bits <= allocated or not bits - 1 <= high_bit < allocated:
            raise DicomError(f"BitsStored {bits} and HighBit {high_bit} do not fit BitsAllocated {allocated}: damaged")
        if high_bit != bits - 1 and bits not in LEFT_ALIGNED_BITS:
            raise DicomError(
                f"HighBit {high_bit}, expected {bits - 1}, one below BitsStored {bits}: one of them is wrong"
            )
        sign = integer_in(dataset, PIXEL_REPRESENTATION, -1)
        if sign not in (-1, 0, 1):
            raise DicomError(f"PixelRepresentation {sign}, expected 0 or 1")
        return cls(
            shape, allocated, bits, high_bit, None if sign < 0 else sign == 1,
            transfer_syntax(dataset) == ExplicitVRBigEndian,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stored:
    """Stored values, (R, C), and their containers, which may have further bits next to BitsStored."""

    values: NDArray[np.integer[Any]]
    containers: NDArray[np.integer[Any]]
    pixel_format: StoredFormat


def pixel_bytes(dataset: Dataset) -> bytes:
    """Return the raw value of the pixel data; empty if there is none."""
    element = dataset.get_item(PIXEL_DATA)
    return element.value if element is not None and isinstance(element.value, bytes) else b""


def plain_pixels(dataset: Dataset, pixel_format: StoredFormat) -> Stored:
    """Return the stored values of uncompressed pixels.

    Bits next to BitsStored (old overlays) are dropped, and the sign is extended.

    Raises:
        DicomError: The pixels are truncated, or are 8-bit pixels in byte-swapped words.
        MissingAttributeError: PixelRepresentation is missing and affects the values.
    """
    element, pixels = dataset.get_item(PIXEL_DATA), pixel_bytes(dataset)
    rows, columns = pixel_format.shape
    expected = rows * columns * pixel_format.allocated // 8
    if len(pixels) < expected or not expected:
        raise DicomError(f"truncated, {len(pixels)} of {expected} bytes of pixels; copy it again")
    beyond = len(pixels) - expected
    if integer_in(dataset, NUMBER_OF_FRAMES, 1) <= 1 and beyond >= min(rows, columns) * pixel_format.allocated // 8:
        raise DicomError(
            f"{beyond} bytes of pixels more than expected by Rows {rows}, Columns {columns} and BitsAllocated "
            f"{pixel_format.allocated}: one of them is wrong; copy it again"
        )
    if pixel_format.big_endian and pixel_format.allocated == 8 and element is not None and element.VR != "OB":
        raise DicomError("8-bit pixels in big endian words; export it in Explicit VR Little Endian")
    order, sign = ">" if pixel_format.big_endian else "<", "i" if pixel_format.is_signed else "u"
    kind = f"{order}{sign}{pixel_format.allocated // 8}"
    containers = np.frombuffer(pixels, kind, rows * columns).reshape(rows, columns)
    above = pixel_format.allocated - 1 - pixel_format.high_bit
    spare = pixel_format.allocated - pixel_format.bits
    values = np.right_shift(np.left_shift(containers, above), spare) if spare else containers
    below = (1 << spare - above) - 1  # the unused bits below the stored ones
    if below and (containers & containers.dtype.type(below)).any():
        raise DicomError(
            f"BitsStored {pixel_format.bits} and HighBit {pixel_format.high_bit}, but lower bits are not 0: one of "
            "them is wrong; copy it again"
        )
    if pixel_format.is_signed is None:
        refuse_sign_bit(values, pixel_format)
    return Stored(values, containers, pixel_format)


def refuse_sign_bit(values: NDArray[np.integer[Any]], pixel_format: StoredFormat) -> None:
    """Raise if values differ between signed and unsigned interpretation.

    Raises:
        MissingAttributeError: They differ, and PixelRepresentation is missing.
    """
    if values.size and int(values.max()) >> (pixel_format.bits - 1):
        raise MissingAttributeError(
            "PixelRepresentation is missing: large values may be negative; export it again",
            attribute="PixelRepresentation",
        )
