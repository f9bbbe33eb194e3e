"""Values that a PACS leaves out of its metadata: elements it calls bulk data, such as private ones of implicit VR.

Some leave private elements out without a word, which is noticed where a PET in counts lacks Philips' factors.

The address a PACS gives for bulk data (BulkDataURI) is not asked: it may name another host. One whole instance is
fetched instead, and its values stand for the series, as far as its first and its last instance agree.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from pydicom.dataset import Dataset

from lib.dicom.attributes.elements import name_of
from lib.dicom.attributes.private_elements import PRIVATE_TAGS
from lib.dicom.read.header import HEADER_TAGS
from lib.dicom.read.instance_file import read_instance
from lib.errors import DicomError

logger = logging.getLogger(__name__)

WANTED = frozenset(HEADER_TAGS)
Elements = Mapping[str, Any]
Path = tuple[int, ...]  # tags from the outside in
UNITS = "00541001"
MAX_HEADER_BYTES = 2**26  # of a multi-frame instance some 10 MB
PHILIPS_FACTORS: tuple[Path, ...] = ((0x70531000,), (0x70531009,))  # without them counts become nothing


def bulk_paths(elements: Elements, *, outside: Path = ()) -> tuple[Path, ...]:
    """Return which wanted elements of DICOM JSON come without their value, also those inside wanted sequences."""
    paths: list[Path] = []
    for name, element in elements.items():
        tag = int(name, 16)
        if not outside and tag not in WANTED:
            continue
        if is_bulk(element):
            paths.append((*outside, tag))
        elif element.get("vr") == "SQ" and element.get("Value"):
            paths += bulk_paths(element["Value"][0], outside=(*outside, tag))
    return tuple(sorted(paths))


def missing_philips_factors(elements: Elements) -> tuple[Path, ...]:
    """Return Philips' factors where metadata of a PET in counts says nothing of any; nothing else."""
    in_counts = "CNTS" in elements.get(UNITS, {}).get("Value", ())
    says_something = any(name.startswith("7053") for name in elements)
    return PHILIPS_FACTORS if in_counts and not says_something else ()


def left_out(instance: Elements) -> tuple[Path, ...]:
    """Return which wanted elements an instance's DICOM JSON lacks; nothing where it is none."""
    try:
        return bulk_paths(instance) + missing_philips_factors(instance)
    except Exception:  # no DICOM JSON: who reads its header says so
        return ()


def is_bulk(element: Elements) -> bool:
    """Return whether an element is named with an address instead of its value."""
    return "BulkDataURI" in element and "Value" not in element and "InlineBinary" not in element


def full_instances(
    instances: Sequence[Elements], fetch: Callable[[Elements], Dataset | None], *, what: str
) -> list[Dataset | None]:
    """Return for each instance's metadata a dataset that holds what it leaves out; None where nothing is, or none can.

    Args:
        instances: DICOM JSON.
        fetch: Returns the whole instance, or None where the PACS cannot give it.
        what: How the log calls the series.
    """
    lacked = [left_out(instance) for instance in instances]
    lacking = [n for n, paths in enumerate(lacked) if paths]
    found: list[Dataset | None] = [None] * len(instances)
    if not lacking:
        return found
    names = ", ".join(sorted({name_of(path[-1]) for paths in lacked for path in paths}))
    logger.info("%s: %s are not in its metadata; whole instances are fetched for them", what, names)
    for paths in {lacked[n] for n in lacking}:
        alike = [n for n in lacking if lacked[n] == paths]
        first = fetch(instances[alike[0]])
        last = fetch(instances[alike[-1]]) if first is not None and len(alike) > 1 else first
        if first is None or last is None:
            logger.warning("%s: %s cannot be fetched", what, names)
            continue
        is_one = _values(first, paths) == _values(last, paths)
        for n in alike:
            found[n] = first if is_one else fetch(instances[n])
    return found


def read_full_header(path: FilePath) -> Dataset:
    """Return an instance without its pixels.

    Raises:
        DicomError: Damaged, or its header is longer than one can be.
    """
    with path.open("rb", buffering=0) as raw, _ReadAtMost(raw, MAX_HEADER_BYTES) as file:
        try:
            return read_instance(file).dataset
        except Exception as error:  # a damaged file can make a parser raise anything
            raise DicomError(f"an instance that cannot be read ({type(error).__name__})") from error


class _ReadAtMost(io.BufferedReader):
    """A file of which so many bytes can be read; what is skipped costs nothing."""

    def __init__(self, raw: io.RawIOBase, limit: int) -> None:
        super().__init__(raw)
        self._left = limit

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > self._left:
            size = self._left + 1
        content = super().read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError("the header is too long")
        return content


def _values(whole: Dataset, paths: Sequence[Path]) -> list[Any]:
    private = [(tag,) for tag in sorted(PRIVATE_TAGS)]  # a PACS may not have said in which block they lie
    return [_value(whole, path) for path in (*paths, *private)]


def _value(dataset: Dataset, path: Path) -> Any:
    for tag in path[:-1]:
        items = dataset[tag].value if tag in dataset else None
        if not items:
            return None
        dataset = items[0]
    element = dataset.get_item(path[-1])
    return None if element is None else element.value
