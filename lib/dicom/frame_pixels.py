"""The pixels of the frames of a multi-frame file, each rescaled by its own slope and intercept.

Uncompressed frames are read from the file one at a time. Compressed ones are unpacked first, each alone: the decoder
would rescale all frames by the slope of the first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_pixel_data_frame
from pydicom.tag import BaseTag
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from lib.dicom.elements import elements_of
from lib.dicom.multiframe import FRAME_GROUPS, Frame, frames_of
from lib.dicom.pixels import (
    BITS_ALLOCATED,
    BITS_STORED,
    PIXEL_DATA,
    PIXEL_REPRESENTATION,
    ReadSlice,
    decoded_values,
    physical_values,
)
from lib.dicom.read_header import integer_in, is_plain_encoding, transfer_syntax
from lib.errors import DicomError


def read_frames(path: Path, wanted: Collection[int]) -> Iterator[ReadSlice]:
    """Yield the wanted frames of a multi-frame CT or PET file, rescaled, in the order of their numbers.

    Args:
        path: The file.
        wanted: Frame numbers, counted from 1.

    Raises:
        DicomError: Missing, damaged, truncated, without one of the frames, or compressed in a way that cannot be undone
            here.
        MissingAttributeError: A frame without RescaleSlope.
    """
    try:
        yield from _read_frames(path, frozenset(wanted))
    except DicomError:
        raise
    except OSError as error:
        raise DicomError(f"{path.name}: cannot be opened ({error.strerror}); scan the folder again") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged DICOM file ({error}); copy it again") from error


def _read_frames(path: Path, wanted: frozenset[int]) -> Iterator[ReadSlice]:
    with path.open("rb") as file:
        dataset = dcmread(file, stop_before_pixels=True, force=True)
        pixels_start = file.tell() + (8 if dataset.is_implicit_VR else 12)
        syntax = transfer_syntax(dataset)
        frames = {frame.header.frame: frame for frame in frames_of(dataset, str(path)) if frame.header.frame in wanted}
        if len(frames) < len(wanted):
            lost = min(wanted - set(frames))
            raise DicomError(f"{path.name}: frame {lost} is not there any more; scan the folder again")
        if is_plain_encoding(syntax):
            for frame in frames.values():
                file.seek(pixels_start + (frame.header.frame - 1) * _frame_bytes(frame))
                yield _with_pixels(frame, file.read(_frame_bytes(frame)))
            return
    whole = dcmread(path, force=True, specific_tags=[PIXEL_DATA]).get_item(PIXEL_DATA)
    pixels = whole.value if whole is not None and isinstance(whole.value, bytes) else b""
    if syntax == DeflatedExplicitVRLittleEndian:
        for number, frame in frames.items():
            size = _frame_bytes(frame)
            yield _with_pixels(frame, pixels[(number - 1) * size : number * size])
        return
    yield from _unpacked(pixels, frames, count=len(dataset[FRAME_GROUPS].value))


def _frame_bytes(frame: Frame) -> int:
    shared = frame.header.shared
    return shared.rows * shared.columns * (integer_in(frame.dataset, BITS_ALLOCATED, 16) // 8)


def _with_pixels(frame: Frame, pixels: bytes) -> ReadSlice:
    """Return a frame read as the single-frame file it would be; the frame itself stays without pixels."""
    tag = BaseTag(PIXEL_DATA)
    dataset = _copy(frame.dataset, getattr(frame.dataset, "file_meta", FileMetaDataset()))
    dataset[tag] = RawDataElement(tag, "OW", len(pixels), pixels, 0, False, True)
    return ReadSlice(frame.header, physical_values(dataset, frame.header, frame.header.file))


def _unpacked(pixels: bytes, frames: Mapping[int, Frame], *, count: int) -> Iterator[ReadSlice]:
    """Yield compressed frames, each decoded from a single-frame file of its own without a rescale."""
    found, name = 0, next(iter(frames.values())).header.file.name
    with tempfile.TemporaryDirectory(prefix="ct2pet-frames-") as folder:
        for number, packed in enumerate(generate_pixel_data_frame(pixels, count), start=1):
            found = number
            if number not in frames:
                continue
            frame = frames[number]
            path = Path(folder) / name
            _write_alone(frame, packed, path)
            stored = decoded_values(path, frame.header)
            kind = "i" if integer_in(frame.dataset, PIXEL_REPRESENTATION) == 1 else "u"
            plain = np.rint(stored).astype(f"<{kind}{integer_in(frame.dataset, BITS_ALLOCATED, 16) // 8}")
            yield _with_pixels(_uncompressed(frame), plain.tobytes())
    if found < max(frames):
        raise DicomError(f"{name}: truncated, {found} of {count} compressed frames; copy it again")


def _write_alone(frame: Frame, packed: bytes, path: Path) -> None:
    shared, meta = frame.header.shared, FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, frame.header.sop_instance_uid
    meta.TransferSyntaxUID = shared.transfer_syntax_uid
    alone = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    alone.is_little_endian, alone.is_implicit_VR = True, False
    alone.SOPClassUID, alone.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    alone.Rows, alone.Columns, alone.SamplesPerPixel = shared.rows, shared.columns, 1
    alone.PhotometricInterpretation = shared.photometric_interpretation or "MONOCHROME2"
    alone.BitsAllocated = integer_in(frame.dataset, BITS_ALLOCATED, 16)
    alone.BitsStored = integer_in(frame.dataset, BITS_STORED, alone.BitsAllocated)
    alone.HighBit = alone.BitsStored - 1
    alone.PixelRepresentation = integer_in(frame.dataset, PIXEL_REPRESENTATION)
    alone.RescaleSlope, alone.RescaleIntercept = 1, 0
    alone.PixelData = encapsulate([packed])
    alone["PixelData"].is_undefined_length = True
    alone.save_as(path, write_like_original=False)


def _uncompressed(frame: Frame) -> Frame:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return replace(frame, dataset=_copy(frame.dataset, meta))


def _copy(dataset: Dataset, meta: FileMetaDataset) -> Dataset:
    copy = Dataset(elements_of(dataset))
    copy.file_meta = meta
    return copy
