"""Encoding of instances that share most elements: a template is encoded once, and elements are replaced in it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydicom.charset import default_encoding
from pydicom.dataset import Dataset, FileDataset, validate_file_meta
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import Tag

ITEM = b"\xfe\xff\x00\xe0"
LONG = ("SQ", "OW")  # of the elements written here, those whose length takes 32 bits (PS3.5 7.1.2)
PREAMBLE = b"\0" * 128 + b"DICM"
GROUP_LENGTH = 0x00020000
MAX_SHORT_BYTES = 0xFFFF


@dataclass(frozen=True)
class InstanceTemplate:
    """The encoded elements of an instance, in Explicit VR Little Endian, by tag.

    Attributes:
        meta: File meta information, without its group length.
        elements: The data set.
    """

    meta: Mapping[int, bytes]
    elements: Mapping[int, bytes]

    @classmethod
    def of(cls, instance: FileDataset) -> InstanceTemplate:
        """Return the template of an instance without pixels."""
        validate_file_meta(instance.file_meta, enforce_standard=True)
        meta = _encoded(instance.file_meta)
        meta.pop(GROUP_LENGTH, None)
        return cls(meta, _encoded(instance))

    def file(self, meta: Mapping[int, bytes], elements: Mapping[int, bytes]) -> bytes:
        """Return the file of an instance that differs from the template in some elements.

        Args:
            meta: Those of the file meta information, encoded, by tag.
            elements: Those of the data set.
        """
        start = _in_order({**self.meta, **meta})
        length = encoded_element(GROUP_LENGTH, "UL", struct.pack("<I", sum(map(len, start))))
        return b"".join((PREAMBLE, length, *start, *_in_order({**self.elements, **elements})))


def encoded_element(tag: int, vr: str, value: bytes | str | Iterable[str]) -> bytes:
    """Return one element in Explicit VR Little Endian, padded to an even length.

    Args:
        tag: Its tag.
        vr: Its value representation.
        value: Bytes, or the text of one value or of several.
    """
    if not isinstance(value, bytes):
        value = (value if isinstance(value, str) else "\\".join(value)).encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    start = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    if vr in LONG:
        return start + struct.pack("<HI", 0, len(value)) + value
    if len(value) > MAX_SHORT_BYTES:
        raise ValueError(f"{Tag(tag)}: {len(value)} bytes, expected at most {MAX_SHORT_BYTES}")
    return start + struct.pack("<H", len(value)) + value


def encoded_sequence(tag: int, items: Iterable[bytes]) -> bytes:
    """Return a sequence of items, each the bytes of its elements in order."""
    return encoded_element(tag, "SQ", b"".join(ITEM + struct.pack("<I", len(item)) + item for item in items))


def encoded_dataset(dataset: Dataset) -> bytes:
    """Return the elements of a data set of ASCII text, in order."""
    return b"".join(_in_order(_encoded(dataset)))


def _encoded(dataset: Dataset) -> dict[int, bytes]:
    character_set = dataset.get("SpecificCharacterSet", default_encoding)
    encoded = {}
    for element in dataset:
        file = DicomBytesIO()
        file.is_little_endian, file.is_implicit_VR = True, False
        write_data_element(file, element, character_set)
        encoded[int(element.tag)] = file.getvalue()
    return encoded


def _in_order(elements: Mapping[int, bytes]) -> list[bytes]:
    return [elements[tag] for tag in sorted(elements)]
