"""Conversion of DICOM JSON (PS3.18 F) to `InstanceHeader` by the same reader as for files.

Values are encoded as in a file, so that invalid values are treated alike.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.values import convert_SQ

from lib.dicom.attributes.elements import Undelivered
from lib.dicom.attributes.private_elements import PRIVATE_TAGS
from lib.dicom.attributes.raw_elements import BINARY_NUMBERS
from lib.dicom.instance_header import InstanceHeader
from lib.dicom.read.header import HEADER_TAGS, header_of
from lib.dicom.read.multiframe import is_multi_frame, slice_headers_of
from lib.dicom.remote.bulk_data import is_bulk, missing_philips_factors
from lib.errors import DicomError

CHARACTER_SET = 0x00080005
SELECTED_TAGS = frozenset(HEADER_TAGS)
UTF_8 = b"ISO_IR 192"  # DICOM JSON is UTF-8; its SpecificCharacterSet is that of the file


def slice_headers_from_json(
    instance: Mapping[str, Any], path: str, *, full: Dataset | None = None
) -> tuple[InstanceHeader, ...]:
    """Return the headers of an instance's slices from WADO-RS metadata, one per frame.

    Raises:
        DicomError: As in `header_from_json`, which describes the arguments.
    """
    header = header_from_json(instance, path, full=full)
    if not is_multi_frame(header.shared):
        return (header,)
    try:
        return slice_headers_of(header, _dataset(instance, full, all_elements=True))
    except DicomError:
        raise
    except Exception as error:  # a damaged response can contain anything
        raise DicomError(f"metadata is not valid DICOM JSON ({type(error).__name__}: {error})") from error


def header_from_json(instance: Mapping[str, Any], path: str, *, full: Dataset | None = None) -> InstanceHeader:
    """Return the header of an instance from WADO-RS metadata.

    Args:
        instance: Elements by tag, eight hexadecimal digits.
        path: Path of its file in the cache.
        full: A complete instance with the values that the metadata omits (`bulk_data.py`). Without it, or if it lacks a
            value, the attribute is recorded as not provided by the PACS.

    Raises:
        DicomError: The metadata is not DICOM JSON or lacks the UIDs of an instance.
    """
    try:
        dataset = _dataset(instance, full)
        missing = missing_philips_factors(instance)
        return header_of(_with_private(dataset, full, missing) if missing else dataset, path)
    except DicomError:
        raise
    except Exception as error:  # a damaged response can contain anything
        raise DicomError(f"metadata is not valid DICOM JSON ({type(error).__name__}: {error})") from error


def _dataset(elements: Mapping[str, Any], full: Dataset | None, *, all_elements: bool = False) -> Dataset:
    found: dict[BaseTag, DataElement | RawDataElement] = {}  # a Dataset would convert private values
    for name, element in elements.items():
        tag = BaseTag(int(name, 16))
        if not all_elements and tag not in SELECTED_TAGS:
            continue
        values = [value for value in element.get("Value", ()) if value is not None]
        if is_bulk(element):
            found[tag] = _left_out(tag, full)
        elif "InlineBinary" in element:
            found[tag] = _inline(tag, element)
        elif element["vr"] == "SQ":
            parts = [*(full[tag].value or ())] if full is not None and tag in full else []
            parts += [None] * len(values)
            items = [_dataset(item, part, all_elements=True) for item, part in zip(values, parts, strict=False)]
            found[tag] = DataElement(tag, "SQ", Sequence(items))
        elif all(isinstance(value, (str, int, float)) for value in values):
            found[tag] = _raw(tag, element["vr"], values)
    charset = BaseTag(CHARACTER_SET)
    found[charset] = RawDataElement(charset, "CS", len(UTF_8), UTF_8, 0, False, True)
    return Dataset(found)


def _with_private(dataset: Dataset, full: Dataset | None, missing: tuple[tuple[int, ...], ...]) -> Dataset:
    """Return the dataset with private elements that its metadata omits."""
    tags = dataset.keys()  # iterating over the Dataset itself yields elements
    found = {tag: dataset.get_item(tag) for tag in tags}
    if full is None:
        found |= {BaseTag(tag): _left_out(BaseTag(tag), None) for (tag,) in missing}
    else:
        found |= {BaseTag(tag): full.get_item(tag) for tag in PRIVATE_TAGS if tag in full}
    return Dataset(found)


def _left_out(tag: BaseTag, full: Dataset | None) -> DataElement | RawDataElement:
    if full is None or tag not in full:
        return RawDataElement(tag, "UN", 0, Undelivered(), 0, False, True)
    return full.get_item(tag)


def _inline(tag: BaseTag, element: Mapping[str, Any]) -> DataElement | RawDataElement:
    """Return an element with inline binary data; servers encode unknown VRs as UN, in little endian."""
    content = base64.b64decode(element["InlineBinary"], validate=True)
    if dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ":  # a sequence of unknown type is in implicit VR (PS3.5)
        return DataElement(tag, "SQ", convert_SQ(content, True, True))
    return RawDataElement(tag, element["vr"], len(content), content, 0, False, True)


def _raw(tag: BaseTag, vr: str, values: list[Any]) -> RawDataElement:
    numbers = (int, float) if vr in ("FD", "FL") else (int,)
    if vr in BINARY_NUMBERS and all(isinstance(value, numbers) for value in values):
        content = struct.pack(f"<{len(values)}{BINARY_NUMBERS[vr]}", *values)
    else:
        content = "\\".join(str(value) for value in values).encode()
    return RawDataElement(tag, vr, len(content), content, 0, False, True)
