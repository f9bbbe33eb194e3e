"""The pixels of one DICOM file as physical numbers: this very slice's slope x stored + intercept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from lib.dicom.header import InstanceHeader
from lib.dicom.multiframe import is_multi_frame
from lib.dicom.read_header import (
    HEADER_TAGS,
    header_of,
    integer_in,
    is_plain_encoding,
    number_in,
    transfer_syntax,
)
from lib.errors import DicomError, MissingAttributeError
from lib.types import FloatArray

BITS_ALLOCATED, BITS_STORED, PIXEL_REPRESENTATION = 0x00280100, 0x00280101, 0x00280103
INTERCEPT, SLOPE, PIXEL_DATA = 0x00281052, 0x00281053, 0x7FE00010
PIXEL_TAGS = [*HEADER_TAGS, BITS_ALLOCATED, BITS_STORED, PIXEL_REPRESENTATION, INTERCEPT, SLOPE, PIXEL_DATA]


@dataclass(frozen=True, eq=False)
class ReadSlice:
    """One file read to the end: its header, and its physical numbers, (R, C) float32."""

    header: InstanceHeader
    values: FloatArray


def read_slice(path: Path) -> ReadSlice:
    """Return one single-frame greyscale file, rescaled.

    Raises:
        DicomError: Missing, damaged, truncated, or compressed in a way that cannot be undone here.
        MissingAttributeError: No RescaleSlope.
    """
    try:
        dataset = dcmread(path, force=True, specific_tags=PIXEL_TAGS)
        header = header_of(dataset, str(path))
        _refuse_several_frames(header)  # before any is decoded: a damaged file may announce a million
        return ReadSlice(header, physical_values(dataset, header, path))
    except DicomError:
        raise
    except OSError as error:
        raise DicomError(f"{path.name}: cannot be opened ({error.strerror}); scan the folder again") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged DICOM file ({error}); copy it again") from error


def _refuse_several_frames(header: InstanceHeader) -> None:
    frames = header.shared.number_of_frames
    if frames > 1 or is_multi_frame(header.shared):
        raise DicomError(
            f"{header.file.name}: multi-frame ({frames} frames), expected one slice; scan the folder again"
        )


def physical_values(dataset: Dataset, header: InstanceHeader, path: Path) -> FloatArray:
    """Return the rescaled pixels, (R, C), of a dataset that was read with at least `PIXEL_TAGS`."""
    syntax = transfer_syntax(dataset)
    if is_plain_encoding(syntax) or syntax == DeflatedExplicitVRLittleEndian:
        return _rescaled(_stored(dataset, header), dataset, path)
    return decoded_values(path, header)


def _stored(dataset: Dataset, header: InstanceHeader) -> NDArray[np.generic]:
    """Return stored numbers, (R, C); bits above BitsStored (old overlays) are dropped and the sign is carried up."""
    shared = header.shared
    allocated = integer_in(dataset, BITS_ALLOCATED)
    if allocated not in (8, 16, 32):
        raise DicomError(f"{header.file.name}: BitsAllocated {allocated}, expected 8, 16 or 32")
    element = dataset.get_item(PIXEL_DATA)
    pixels = element.value if element is not None and isinstance(element.value, bytes) else b""
    count = shared.rows * shared.columns
    expected = count * allocated // 8
    if len(pixels) < expected or not expected:
        raise DicomError(f"{header.file.name}: truncated, {len(pixels)} of {expected} bytes of pixels; copy it again")
    kind = "i" if integer_in(dataset, PIXEL_REPRESENTATION) == 1 else "u"
    order = ">" if shared.transfer_syntax_uid == ExplicitVRBigEndian else "<"
    stored = np.frombuffer(pixels, f"{order}{kind}{allocated // 8}", count).reshape(shared.rows, shared.columns)
    spare = allocated - integer_in(dataset, BITS_STORED, allocated)
    return stored if not 0 < spare < allocated else np.right_shift(np.left_shift(stored, spare), spare)


def _rescaled(stored: NDArray[np.generic], dataset: Dataset, path: Path) -> FloatArray:
    slope = number_in(dataset, SLOPE)
    if slope is None:
        raise MissingAttributeError(f"{path.name}: RescaleSlope is missing; stored numbers have no unit")
    values = np.multiply(stored, np.float32(slope), dtype=np.float32)
    values += np.float32(number_in(dataset, INTERCEPT) or 0.0)  # absent means 0 (in PET it always is)
    return values


def decoded_values(path: Path, header: InstanceHeader) -> FloatArray:
    """Return a compressed slice through SimpleITK, whose GDCM decodes and rescales (JPEG, JPEG-LS, JPEG 2000, RLE)."""
    import SimpleITK as sitk  # here, because it takes longer to load than most folders do to scan

    syntax = UID(header.shared.transfer_syntax_uid)
    try:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise DicomError(
            f"{path.name}: its compression ({syntax.name}) cannot be decoded here; export it uncompressed "
            "(Explicit VR Little Endian)"
        ) from error
    expected = (header.shared.rows, header.shared.columns)
    if values.shape[-2:] != expected or values.size != expected[0] * expected[1]:
        raise DicomError(f"{path.name}: {syntax.name} decodes to {values.shape}, expected one slice of {expected}")
    return np.asarray(values.reshape(expected), dtype=np.float32)
