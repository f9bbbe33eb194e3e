"""Pixels of the frames of a multi-frame file, each rescaled by its own slope and intercept.

Uncompressed frames are read from the file one at a time, compressed ones decoded one at a time, because a decoder that
reads the entire file rescales all frames by the slope of the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_pixel_data_frame
from pydicom.tag import BaseTag

from lib.dicom.attributes.elements import items_in
from lib.dicom.attributes.raw_elements import elements_of
from lib.dicom.attributes.transfer_syntax import is_plain_encoding, transfer_syntax
from lib.dicom.instance_header import InstanceHeader
from lib.dicom.pixel_data.compressed import decode_pixels
from lib.dicom.pixel_data.decoder import Decoder
from lib.dicom.pixel_data.stored_values import PIXEL_DATA, Stored, StoredFormat, pixel_bytes, plain_pixels
from lib.dicom.read.instance_file import read_instance, read_instance_file
from lib.dicom.read.multiframe import FRAME_GROUPS, Frame, frames_of
from lib.dicom.read.pixels import ReadSlice, errors_name, physical_values, read_slice
from lib.errors import DicomError


def read_header_slice(header: InstanceHeader) -> ReadSlice:
    """Return the rescaled slice of a header: a file, or one of its frames.

    Raises:
        DicomError, MissingAttributeError: As in `read_slice` and `read_frames`.
    """
    return next(read_frames(header.file, [header.frame])) if header.frame else read_slice(header.file)


def read_frames(path: Path, numbers: Collection[int]) -> Iterator[ReadSlice]:
    """Yield selected frames of a multi-frame CT or PET file, rescaled, in the order of their numbers.

    Args:
        path: The file.
        numbers: Frame numbers, from 1.

    Raises:
        DicomError: The file is missing, damaged or truncated, lacks a frame, or cannot be decompressed.
        MissingAttributeError: A frame lacks RescaleSlope, or a CT frame lacks RescaleIntercept.
    """
    with errors_name(path):
        yield from _read_frames(path, frozenset(numbers))


def _read_frames(path: Path, numbers: frozenset[int]) -> Iterator[ReadSlice]:
    with path.open("rb") as file:
        instance = read_instance(file)
        dataset, stream = instance.dataset, instance.stream
        syntax = transfer_syntax(dataset)
        frames = {frame.header.frame: frame for frame in frames_of(dataset, str(path)) if frame.header.frame in numbers}
        if len(frames) < len(numbers):
            missing = min(numbers - set(frames))
            raise DicomError(f"frame {missing} no longer exists; scan the folder again")
        if is_plain_encoding(syntax):
            for number, frame in frames.items():
                size = _frame_bytes(frame)
                if not instance.pixels_at:
                    raise DicomError("it has no pixel data; copy it again")
                stream.seek(instance.pixels_at + (number - 1) * size)
                yield _plain(frame, stream.read(size))
            return
    dataset_with_pixels = read_instance_file(path, tags=[PIXEL_DATA], with_pixels=True)
    yield from _decoded(
        path, pixel_bytes(dataset_with_pixels), syntax, frames, count=len(items_in(dataset, FRAME_GROUPS))
    )


def _decoded(path: Path, pixels: bytes, syntax: str, frames: Mapping[int, Frame], *, count: int) -> Iterator[ReadSlice]:
    found = 0
    with Decoder() as decoder:
        for found, fragment in enumerate(generate_pixel_data_frame(pixels, count), start=1):
            if found in frames:
                frame = frames[found]
                yield _slice(
                    frame, decode_pixels(encapsulate([fragment]), syntax, _format(frame), decoder, source=path)
                )
    if found < max(frames):
        raise DicomError(f"truncated, {found} of {count} compressed frames; copy it again")


def _plain(frame: Frame, pixels: bytes) -> ReadSlice:
    tag = BaseTag(PIXEL_DATA)
    dataset = Dataset(
        {**elements_of(frame.dataset), tag: RawDataElement(tag, "OW", len(pixels), pixels, 0, False, True)}
    )
    dataset.file_meta = getattr(frame.dataset, "file_meta", FileMetaDataset())
    return _slice(frame, plain_pixels(dataset, _format(frame)))


def _slice(frame: Frame, stored: Stored) -> ReadSlice:
    values = physical_values(frame.dataset, frame.header, stored)
    return ReadSlice(frame.header, values, stored.pixel_format)


def _format(frame: Frame) -> StoredFormat:
    return StoredFormat.of(frame.dataset, (frame.header.shared.rows, frame.header.shared.columns))


def _frame_bytes(frame: Frame) -> int:
    rows, columns = _format(frame).shape
    return rows * columns * _format(frame).allocated // 8
