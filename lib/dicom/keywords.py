"""Values of attributes that are named by their DICOM keyword, as text, for conditions that a person writes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from pydicom.multival import MultiValue

from lib.dicom.read.instance_file import read_instance_file
from lib.errors import DicomError

# sequences and bytes have no text; names of patients and staff decide nothing
NO_TEXT = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "PN", "AT", "OB or OW", "US or OW"})
MAX_VALUES = 100  # of one attribute


def why_no_condition(keyword: str) -> str:
    """Return why an attribute cannot be part of a condition; empty if it can."""
    if tag_for_keyword(keyword) is None:
        known = [entry[4] for entry in DicomDictionary.values() if entry[4]]
        close = difflib.get_close_matches(keyword, known, n=1)
        return "no DICOM keyword" + (f"; did you mean {close[0]}?" if close else "")
    representation = dictionary_VR(tag_for_keyword(keyword) or 0)
    return f"its values ({representation}) cannot be compared" if representation in NO_TEXT else ""


def read_texts(path: Path, keywords: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of attributes of a DICOM file, as text without padding; () for an absent or damaged one.

    Args:
        path: An untrusted file.
        keywords: Each without a reason of `why_no_condition`.

    Raises:
        DicomError: The file is damaged.
        OSError: It cannot be opened.
    """
    names = tuple(keywords)
    try:
        dataset = read_instance_file(path, tags=[int(tag_for_keyword(name) or 0) for name in names])
    except (DicomError, OSError):
        raise
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged DICOM file, its header cannot be read") from error
    return {name: _texts(dataset, name) for name in names}


def _texts(dataset: object, keyword: str) -> tuple[str, ...]:
    try:
        value = getattr(dataset, keyword, None)
    except Exception:  # pydicom converts a value on access, and may raise anything
        return ()
    values = list(value)[:MAX_VALUES] if isinstance(value, MultiValue) else [value]
    return tuple(text for one in values if one is not None and (text := str(one).strip(" \0")))
