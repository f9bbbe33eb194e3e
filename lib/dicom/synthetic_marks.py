"""Header markers of images synthesised by a model. One is enough: archives and de-identifiers remove others.

Of the markers that ct2pet writes, PS3.15 annex E lets a de-identifier remove SeriesDescription, DerivationDescription,
ImageComments and ContributingEquipmentSequence; archives older than 2022 may drop SyntheticData.
DerivationCodeSequence stays. Manufacturer is not a marker, because ct2pet's phantoms have the same one. Series of
earlier versions have the same markers, with ImageType DERIVED\\SECONDARY instead of DERIVED\\PRIMARY.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

__all__ = ["OUR_SCHEME", "SYNTHESIZING", "SYNTHETIC_DATA", "SYNTHETIC_TAGS", "is_marked_synthetic"]

SYNTHETIC_DATA = 0x0008001C  # SyntheticData, a keyword that pydicom 2.4 lacks
DERIVATION_DESCRIPTION, IMAGE_COMMENTS = 0x00082111, 0x00204000
CONTRIBUTING_EQUIPMENT, PURPOSE, DERIVATION_CODES = 0x0018A001, 0x0040A170, 0x00089215
CODE_VALUE, CODING_SCHEME = 0x00080100, 0x00080102
SYNTHETIC_TAGS = (
    SYNTHETIC_DATA, DERIVATION_DESCRIPTION, IMAGE_COMMENTS, CONTRIBUTING_EQUIPMENT, DERIVATION_CODES
)  # fmt: skip
SYNTHESIZING = "109100"  # DCM: Synthesizing Equipment, a purpose of contributing equipment
OUR_SCHEME = "99CT2PET"  # coding scheme of ct2pet's derivation code


def is_marked_synthetic(dataset: Dataset, *, image_type: tuple[str, ...], series_description: str) -> bool:
    """Return whether a header marks an image as synthesised by a model, of ct2pet or another program.

    Args:
        dataset: The header, read with at least `SYNTHETIC_TAGS`.
        image_type: ImageType.
        series_description: SeriesDescription, decoded.
    """
    if _text(dataset, SYNTHETIC_DATA) == "YES":
        return True
    if image_type[:1] == ("DERIVED",):  # a measured image may be of a "synthetic tracer"
        texts = (series_description.upper(), *(_text(dataset, tag) for tag in (DERIVATION_DESCRIPTION, IMAGE_COMMENTS)))
        if any(text.startswith("SYNTHETIC") for text in texts):
            return True
    purposes = (code for item in _items(dataset, CONTRIBUTING_EQUIPMENT) for code in _items(item, PURPOSE))
    return any(
        _text(code, CODE_VALUE) == SYNTHESIZING and _text(code, CODING_SCHEME) == "DCM" for code in purposes
    ) or (any(_text(code, CODING_SCHEME) == OUR_SCHEME for code in _items(dataset, DERIVATION_CODES)))


def _text(dataset: Dataset, tag: int) -> str:
    """Return ASCII text in capitals; empty if it is absent or has several values."""
    element = dataset.get_item(tag)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace")
    return value.strip(" \0").upper() if isinstance(value, str) else ""


def _items(dataset: Dataset, tag: int) -> Iterable[Dataset]:
    """Return the items of a sequence; none if it is absent or damaged."""
    try:
        value = dataset[tag].value if tag in dataset else None
    except Exception:  # a damaged sequence can make a parser raise anything
        return ()
    return value if isinstance(value, Sequence) else ()
