"""Selection of series by attributes of their header, such as `BodyPartExamined=CHEST`, like a query of a PACS."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydicom.datadict import dictionary_VR, tag_for_keyword

from lib.dicom.attributes.elements import text_in
from lib.dicom.read.instance_file import read_instance_file
from lib.errors import InputError
from lib.types import Series

NOT_TEXT = frozenset({"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN", "AT"})  # value representations
WILDCARDS = re.compile(r"([*?])")


def parse_filters(text: str) -> dict[str, str]:
    """Return the attributes of `Keyword=value,Keyword=value`; an empty text gives none.

    Raises:
        InputError: A part is not of this form, or names no DICOM attribute, or one twice.
    """
    filters: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        keyword, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not keyword or not value:
            raise InputError(f"filter {part!r}: expected Keyword=value, such as BodyPartExamined=CHEST")
        tag = tag_for_keyword(keyword)
        if tag is None or dictionary_VR(tag) in NOT_TEXT:
            raise InputError(f"filter {keyword!r}: not the keyword of a DICOM attribute with text, such as StationName")
        if keyword in filters:
            raise InputError(f"filter {keyword}: is given twice; expected one value, in which * and ? are wildcards")
        filters[keyword] = value
    return filters


def series_matches(series: Series, filters: Mapping[str, str]) -> bool:
    """Return whether the first file of a series has these attributes; * and ? in a value are wildcards.

    A file that cannot be read matches, so that it is reported where it is used and not left out in silence.
    """
    tags = {keyword: tag_for_keyword(keyword) or 0 for keyword in filters}
    try:
        dataset = read_instance_file(series.files[0], tags=list(tags.values()))
        found = {keyword: text_in(dataset, tag) for keyword, tag in tags.items()}
    except Exception:  # a damaged file can make a parser raise anything
        return True
    return all(re.fullmatch(_pattern(value), found[keyword]) for keyword, value in filters.items())


def _pattern(value: str) -> str:
    """Return the regular expression of a value with DICOM's wildcards (PS3.4 C.2.2.2.4)."""
    return "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in WILDCARDS.split(value))
