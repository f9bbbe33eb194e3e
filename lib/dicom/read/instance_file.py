"""Reading of a DICOM file as a pydicom dataset, the only entry point for untrusted files.

Duplicate elements are rejected, and inflation is limited. pydicom's `dcmread` inflates a deflated file without a limit,
keeps the last of two elements with one tag, and lets elements after the pixel data replace earlier ones.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lib.dicom.attributes.duplicate_elements import DuplicateElementGuard
from lib.dicom.attributes.file_meta import PREAMBLE_BYTES, FileMeta, read_file_meta
from lib.dicom.read.deflate_guard import inflate

FIRST_TAGS = frozenset(  # of a data set without meta information, in either byte order
    bytes.fromhex(tag) for tag in ("08000000", "08000500", "08000800", "00080000", "00080005", "00080008")
)


@dataclass(frozen=True, eq=False)
class Instance:
    """The content read from a file.

    Attributes:
        dataset: The elements; those of a deflated file as if it were Explicit VR Little Endian.
        stream: The bytes of the file, inflated.
        pixels_at: Offset of the pixel data value in the stream; 0 if there is none.
    """

    dataset: FileDataset
    stream: BinaryIO
    pixels_at: int


def read_instance_file(path: Path, *, tags: list[int] | None = None, with_pixels: bool = False) -> FileDataset:
    """Return the elements of a file, as `read_instance`."""
    with path.open("rb") as file:
        return read_instance(file, tags=tags, with_pixels=with_pixels).dataset


def read_instance(file: BinaryIO, *, tags: list[int] | None = None, with_pixels: bool = False) -> Instance:
    """Return the content of an open file.

    Args:
        file: File positioned at its beginning; it must stay open while the stream is used.
        tags: Tags of the elements to read; None for all.
        with_pixels: Whether to read the pixel data and what follows it.

    Raises:
        DicomError: An element is a duplicate or follows the pixel data, or the inflated file is too large.
        Exception: Any error that pydicom raises for a damaged file.
    """
    meta = read_file_meta(file)
    file.seek(0)
    start = file.read(meta.end or 4)
    if not meta.end and start not in FIRST_TAGS:
        raise ValueError("not a DICOM file")
    file.seek(meta.end)
    stream = inflate(file) if meta.is_deflated else file
    is_implicit, order = _encoding(meta, stream)
    guard = DuplicateElementGuard(
        stream,
        is_implicit=is_implicit,
        order=order,
        ends_at_pixels=not with_pixels,
        meaningful=frozenset(tags or ()),
    )
    selected = None if tags is None else _tags(tuple(tags))
    elements = read_dataset(stream, is_implicit, order == "<", stop_when=guard, specific_tags=selected)
    dataset = FileDataset(
        getattr(file, "name", None),
        elements,
        start[: PREAMBLE_BYTES - len(b"DICM")] if meta.start else None,
        _file_meta(start, meta),
        is_implicit,
        order == "<",
    )
    dataset.set_original_encoding(is_implicit, order == "<", elements._character_set)
    return Instance(dataset, stream, guard.pixels_at)


@lru_cache(32)
def _tags(tags: tuple[int, ...]) -> list[BaseTag]:
    return [Tag(tag) for tag in tags]


def _encoding(meta: FileMeta, stream: BinaryIO) -> tuple[bool, str]:
    """Return whether the VR is implicit, and the byte order, as found in the data, which may contradict the header."""
    at = stream.tell()
    head = stream.read(6)
    stream.seek(at)
    vr = head[4:6]
    has_vr = len(vr) == 2 and all(0x40 < byte < 0x5B for byte in vr)
    if meta.transfer_syntax_uid == ExplicitVRBigEndian:
        return not has_vr, ">"
    if not meta.transfer_syntax_uid and has_vr and int.from_bytes(head[:2], "little") >= 0x0400:
        return False, ">"  # a file without meta information: group 0008 in the other byte order
    if len(head) < 6:
        return meta.transfer_syntax_uid in ("", ImplicitVRLittleEndian), "<"
    return not has_vr, "<"


def _file_meta(start: bytes, meta: FileMeta) -> FileMetaDataset:
    content = start[meta.start :]
    has_vr = content[4:6].isalpha() and content[4:6].isupper()
    found = FileMetaDataset(read_dataset(io.BytesIO(content), not has_vr, True))
    if meta.is_deflated:
        found.TransferSyntaxUID = ExplicitVRLittleEndian
    return found
