"""Elements of a file up to its pixels, none of them twice: of two values for one attribute, pydicom keeps the last."""

from __future__ import annotations

from typing import BinaryIO

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from lib.errors import DicomError

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})


def read_elements(file: BinaryIO, tags: list[int], *, force: bool) -> Dataset:
    """Return the elements with these tags that stand in front of the pixels.

    Args:
        file: Open at its beginning.
        tags: Which.
        force: Read it without a preamble, too.

    Raises:
        DicomError: One of them stands there twice.
        Exception: Whatever pydicom raises of a damaged file.
    """
    seen: set[int] = set()
    repeated: list[int] = []

    def is_at_pixels(tag: BaseTag, *_: object) -> bool:
        """Note the element, and return whether reading ends here."""
        if tag in seen and tag in tags:
            repeated.append(tag)
        seen.add(tag)
        return tag in PIXELS

    dataset = read_partial(file, is_at_pixels, force=force, specific_tags=tags)
    if repeated:
        name = keyword_for_tag(repeated[0]) or f"({repeated[0] >> 16:04X},{repeated[0] & 0xFFFF:04X})"
        raise DicomError(f"{name} stands in the header twice: which value is meant cannot be told; export it again")
    return dataset
