"""One instance of DICOM JSON (PS3.18 F) to one `InstanceHeader`: the same reader as for files, without a file.

Values go in as the bytes a file would hold, so that a value that breaks its representation's rules is a missing value
here, too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from lib.dicom.elements import BINARY_NUMBERS
from lib.dicom.header import InstanceHeader
from lib.dicom.multiframe import is_multi_frame, slice_headers_of
from lib.dicom.read_header import HEADER_TAGS, header_of
from lib.errors import DicomError

CHARACTER_SET = 0x00080005
WANTED = frozenset(HEADER_TAGS)
UTF_8 = b"ISO_IR 192"  # DICOM JSON is UTF-8, whatever its SpecificCharacterSet says of the file


def slice_headers_from_json(instance: Mapping[str, Any], path: str) -> tuple[InstanceHeader, ...]:
    """Return the headers of an instance's slices as WADO-RS metadata tells them, as many as it has frames.

    Args:
        instance: Elements by tag, eight hexadecimal digits.
        path: Where its file will lie.

    Raises:
        DicomError: No DICOM JSON, or without the UIDs every instance has.
    """
    header = header_from_json(instance, path)
    if not is_multi_frame(header.shared):
        return (header,)
    try:
        return slice_headers_of(header, _dataset(instance, all_elements=True))
    except DicomError:
        raise
    except Exception as error:  # a damaged answer can hold anything
        raise DicomError(f"metadata that is no DICOM JSON ({type(error).__name__}: {error})") from error


def header_from_json(instance: Mapping[str, Any], path: str) -> InstanceHeader:
    """Return the header of an instance as WADO-RS metadata tells it.

    Args:
        instance: Elements by tag, eight hexadecimal digits.
        path: Where its file will lie.

    Raises:
        DicomError: No DICOM JSON, or without the UIDs every instance has.
    """
    try:
        return header_of(_dataset(instance), path)
    except DicomError:
        raise
    except Exception as error:  # a damaged answer can hold anything
        raise DicomError(f"metadata that is no DICOM JSON ({type(error).__name__}: {error})") from error


def _dataset(elements: Mapping[str, Any], *, all_elements: bool = False) -> Dataset:
    dataset = Dataset()
    for name, element in elements.items():
        tag = int(name, 16)
        if not all_elements and tag not in WANTED:
            continue
        values = [value for value in element.get("Value", ()) if value is not None]
        if element["vr"] == "SQ":
            items = [_dataset(item, all_elements=True) for item in values]
            dataset[tag] = DataElement(tag, "SQ", Sequence(items))
        elif all(isinstance(value, (str, int, float)) for value in values):
            dataset[tag] = _raw(tag, element["vr"], values)
    dataset[CHARACTER_SET] = RawDataElement(BaseTag(CHARACTER_SET), "CS", len(UTF_8), UTF_8, 0, False, True)
    return dataset


def _raw(tag: int, vr: str, values: list[Any]) -> RawDataElement:
    numbers = (int, float) if vr in ("FD", "FL") else (int,)
    if vr in BINARY_NUMBERS and all(isinstance(value, numbers) for value in values):
        content = struct.pack(f"<{len(values)}{BINARY_NUMBERS[vr]}", *values)
    else:
        content = "\\".join(str(value) for value in values).encode()
    return RawDataElement(BaseTag(tag), vr, len(content), content, 0, False, True)
