"""One instance of DICOM JSON (PS3.18 F) to one `InstanceHeader`: the same reader as for files, without a file.

Values go in as the bytes a file would hold, so that a value that breaks its representation's rules is treated alike.
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

from lib.dicom.elements import Undelivered
from lib.dicom.header import InstanceHeader
from lib.dicom.read_header import HEADER_TAGS, header_of
from lib.dicom.remote.bulk_data import is_bulk
from lib.errors import DicomError

CHARACTER_SET = 0x00080005
WANTED = frozenset(HEADER_TAGS)
UTF_8 = b"ISO_IR 192"  # DICOM JSON is UTF-8, whatever its SpecificCharacterSet says of the file


def header_from_json(instance: Mapping[str, Any], path: str, *, whole: Dataset | None = None) -> InstanceHeader:
    """Return the header of an instance as WADO-RS metadata tells it.

    Args:
        instance: Elements by tag, eight hexadecimal digits.
        path: Where its file will lie.
        whole: An instance that holds the values the metadata leaves out (`bulk_data.py`); without it, or where it lacks
            one, the attribute is said not to be delivered.

    Raises:
        DicomError: No DICOM JSON, or without the UIDs every instance has.
    """
    try:
        return header_of(_dataset(instance, whole), path)
    except DicomError:
        raise
    except Exception as error:  # a damaged answer can hold anything
        raise DicomError(f"metadata that is no DICOM JSON ({type(error).__name__}: {error})") from error


def _dataset(elements: Mapping[str, Any], whole: Dataset | None, *, inside_sequence: bool = False) -> Dataset:
    dataset = Dataset()
    for name, element in elements.items():
        tag = int(name, 16)
        if not inside_sequence and tag not in WANTED:
            continue
        values = [value for value in element.get("Value", ()) if value is not None]
        if element["vr"] == "SQ" and not is_bulk(element):
            parts = list(whole[tag].value or ()) if whole is not None and tag in whole else []
            parts += [None] * len(values)
            items = [_dataset(item, part, inside_sequence=True) for item, part in zip(values, parts, strict=False)]
            dataset[tag] = DataElement(tag, "SQ", Sequence(items))
        elif is_bulk(element):
            _put_left_out(dataset, tag, whole)
        elif "InlineBinary" in element:
            _put_inline(dataset, tag, element)
        elif all(isinstance(value, (str, int, float)) for value in values):
            dataset[tag] = _raw(tag, element["vr"], values)
    dataset[CHARACTER_SET] = RawDataElement(BaseTag(CHARACTER_SET), "CS", len(UTF_8), UTF_8, 0, False, True)
    return dataset


def _put_left_out(dataset: Dataset, tag: int, whole: Dataset | None) -> None:
    if whole is None or tag not in whole:
        dataset[tag] = RawDataElement(BaseTag(tag), "UN", 0, Undelivered(), 0, False, True)
    else:
        dataset[tag] = whole.get_item(tag)


def _put_inline(dataset: Dataset, tag: int, element: Mapping[str, Any]) -> None:
    """Put the bytes of a value: what a server does not know it gives as UN, in little endian."""
    content = base64.b64decode(element["InlineBinary"], validate=True)
    if dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ":  # a sequence of unknown type is in implicit VR (PS3.5)
        dataset[tag] = DataElement(tag, "SQ", convert_SQ(content, True, True))
    else:
        dataset[tag] = RawDataElement(BaseTag(tag), element["vr"], len(content), content, 0, False, True)


def _raw(tag: int, vr: str, values: list[Any]) -> RawDataElement:
    if vr == "US" and all(isinstance(value, int) for value in values):
        content = struct.pack(f"<{len(values)}H", *values)
    else:
        content = "\\".join(str(value) for value in values).encode()
    return RawDataElement(BaseTag(tag), vr, len(content), content, 0, False, True)
