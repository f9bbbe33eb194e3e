"""Pixels of one DICOM file as physical values: slope x stored + intercept of this slice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from lib.dicom.attributes.elements import AttributeReader
from lib.dicom.attributes.transfer_syntax import is_plain_encoding, transfer_syntax
from lib.dicom.instance_header import InstanceHeader
from lib.dicom.pixel_data.compressed import decode_pixels
from lib.dicom.pixel_data.decoder import Decoder
from lib.dicom.pixel_data.padding import ct_padding, pet_padding
from lib.dicom.pixel_data.stored_values import STORED_TAGS, Stored, StoredFormat, pixel_bytes, plain_pixels
from lib.dicom.read.header import HEADER_TAGS, TAGS, header_of
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.multiframe import is_multi_frame
from lib.errors import DicomError, MissingAttributeError
from lib.types import FloatArray

PIXEL_TAGS = [*HEADER_TAGS, *STORED_TAGS]
AIR_HU = -1024.0  # replaces CT padding, which is displayed and learned as air


@dataclass(frozen=True, eq=False)
class ReadSlice:
    """One slice with its pixels.

    Attributes:
        header: The header.
        values: Physical values, (R, C) float32; NaN where a PET has no data.
        pixel_format: The format of the stored values.
    """

    header: InstanceHeader
    values: FloatArray
    pixel_format: StoredFormat


def read_slice(path: Path, decoder: Decoder | None = None) -> ReadSlice:
    """Return one single-frame greyscale file, rescaled; padding becomes air in a CT, and NaN in a PET unless it is 0.

    Compressed pixels need a decoder; without one, a decoder is started for this file.

    Raises:
        DicomError: The file is missing, damaged or truncated, or cannot be decompressed.
        MissingAttributeError: RescaleSlope is missing, or RescaleIntercept of a CT.
    """
    if decoder is None:
        with Decoder() as own:
            return read_slice(path, own)
    with errors_name(path):
        dataset = read_instance_file(path, tags=PIXEL_TAGS, with_pixels=True)
        header = header_of(dataset, str(path))
        _refuse_several_frames(header)  # before decoding: a damaged file may declare a million frames
        pixel_format = StoredFormat.of(dataset, (header.shared.rows, header.shared.columns))
        syntax = transfer_syntax(dataset)
        if is_plain_encoding(syntax):
            stored = plain_pixels(dataset, pixel_format)
        else:
            stored = decode_pixels(pixel_bytes(dataset), syntax, pixel_format, decoder, source=path)
        return ReadSlice(header, physical_values(dataset, header, stored), pixel_format)


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Prefix errors of reading a DICOM file with its name; those of parsers become DicomError."""
    try:
        yield
    except DicomError as error:
        if str(error).startswith(path.name):
            raise
        raise error.with_message(f"{path.name}: {error}") from error
    except OSError as error:
        raise DicomError(f"{path.name}: cannot be opened ({error.strerror}); scan the folder again") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged DICOM file ({error}); copy it again") from error


def _refuse_several_frames(header: InstanceHeader) -> None:
    frames = header.shared.number_of_frames
    if frames > 1 or is_multi_frame(header.shared):
        raise DicomError(f"multi-frame ({frames} frames), expected one slice; scan the folder again")


def physical_values(dataset: Dataset, header: InstanceHeader, stored: Stored) -> FloatArray:
    """Return a slice's rescaled values with padding replaced, (R, C).

    Raises:
        DicomError: A padding attribute is malformed.
        MissingAttributeError: As in `read_slice`.
    """
    slope, intercept = _rescale(dataset, header)
    values = np.multiply(stored.values, np.float32(slope), dtype=np.float32)
    values += np.float32(intercept)
    is_ct = header.shared.modality == "CT"
    padding = ct_padding(dataset, stored, values) if is_ct else pet_padding(dataset, stored, values)
    if padding is not None:
        values[padding] = AIR_HU if is_ct else np.nan
    return values


def _rescale(dataset: Dataset, header: InstanceHeader) -> tuple[float, float]:
    read = AttributeReader()
    slope, intercept = read.number(dataset, TAGS["slope"]), read.number(dataset, TAGS["intercept"])
    shared = header.shared
    if slope is None:
        raise MissingAttributeError(
            f"{shared.absence_reason('RescaleSlope')}; stored values have no unit", attribute="RescaleSlope"
        )
    if intercept is None and (shared.modality == "CT" or read.malformed):
        raise MissingAttributeError(
            f"{shared.absence_reason('RescaleIntercept')}; stored values are not HU", attribute="RescaleIntercept"
        )
    return slope, intercept or 0.0  # 0 is the default of PET (PS3.3 C.8.9.4)
