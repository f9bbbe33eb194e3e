"""Values that a PACS omits from its metadata: bulk data, such as private elements in implicit VR.

Some PACS omit private elements entirely, which is detected if a PET in counts lacks Philips' factors.

BulkDataURI is not requested, because it may refer to another host. Instead one complete instance is fetched, and its
values are used for the series if the first and the last instance agree.
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

SELECTED_TAGS = frozenset(HEADER_TAGS)
Elements = Mapping[str, Any]
Path = tuple[int, ...]  # tags from the outermost to the innermost
UNITS = "00541001"
MAX_HEADER_BYTES = 2**26  # about 10 MB for a multi-frame instance
PHILIPS_FACTORS: tuple[Path, ...] = ((0x70531000,), (0x70531009,))  # required to convert counts


def bulk_paths(elements: Elements, *, outside: Path = ()) -> tuple[Path, ...]:
    """Return the selected elements of DICOM JSON without a value, including those nested in selected sequences."""
    paths: list[Path] = []
    for name, element in elements.items():
        tag = int(name, 16)
        if not outside and tag not in SELECTED_TAGS:
            continue
        if is_bulk(element):
            paths.append((*outside, tag))
        elif element.get("vr") == "SQ" and element.get("Value"):
            paths += bulk_paths(element["Value"][0], outside=(*outside, tag))
    return tuple(sorted(paths))


def missing_philips_factors(elements: Elements) -> tuple[Path, ...]:
    """Return the paths of Philips' factors if the metadata of a PET in counts has none; otherwise nothing."""
    in_counts = "CNTS" in elements.get(UNITS, {}).get("Value", ())
    has_private = any(name.startswith("7053") for name in elements)
    return PHILIPS_FACTORS if in_counts and not has_private else ()


def omitted_paths(instance: Elements) -> tuple[Path, ...]:
    """Return the selected elements that an instance's DICOM JSON lacks; none if it is not DICOM JSON."""
    try:
        return bulk_paths(instance) + missing_philips_factors(instance)
    except Exception:  # not DICOM JSON: reading its header reports that
        return ()


def is_bulk(element: Elements) -> bool:
    """Return whether an element has a BulkDataURI instead of its value."""
    return "BulkDataURI" in element and "Value" not in element and "InlineBinary" not in element


def full_instances(
    instances: Sequence[Elements], fetch: Callable[[Elements], Dataset | None], *, what: str
) -> list[Dataset | None]:
    """Return for each instance's metadata a dataset with the omitted values; None if none are omitted or available.

    Args:
        instances: DICOM JSON.
        fetch: Returns the complete instance, or None if the PACS cannot provide it.
        what: Name of the series in the log.
    """
    omitted = [omitted_paths(instance) for instance in instances]
    incomplete = [n for n, paths in enumerate(omitted) if paths]
    found: list[Dataset | None] = [None] * len(instances)
    if not incomplete:
        return found
    names = ", ".join(sorted({name_of(path[-1]) for paths in omitted for path in paths}))
    logger.info("%s: %s are not in its metadata; fetching complete instances", what, names)
    for paths in {omitted[n] for n in incomplete}:
        same_paths = [n for n in incomplete if omitted[n] == paths]
        first = fetch(instances[same_paths[0]])
        last = fetch(instances[same_paths[-1]]) if first is not None and len(same_paths) > 1 else first
        if first is None or last is None:
            logger.warning("%s: %s cannot be fetched", what, names)
            continue
        agree = _values(first, paths) == _values(last, paths)
        for n in same_paths:
            found[n] = first if agree else fetch(instances[n])
    return found


def read_full_header(path: FilePath) -> Dataset:
    """Return an instance without its pixels.

    Raises:
        DicomError: The instance is damaged, or its header is too long.
    """
    with path.open("rb", buffering=0) as raw, _ReadAtMost(raw, MAX_HEADER_BYTES) as file:
        try:
            return read_instance(file).dataset
        except Exception as error:  # a damaged file can make a parser raise anything
            raise DicomError(f"an instance cannot be read ({type(error).__name__})") from error


class _ReadAtMost(io.BufferedReader):
    """A file with a limit on the bytes read; skipped bytes do not count."""

    def __init__(self, raw: io.RawIOBase, limit: int) -> None:
        super().__init__(raw)
        self._remaining = limit

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes.

        Raises:
            ValueError: The limit is exceeded.
        """
        if size is None or size < 0 or size > self._remaining:
            size = self._remaining + 1
        content = super().read(size)
        self._remaining -= len(content)
        if self._remaining < 0:
            raise ValueError("the header is too long")
        return content


def _values(instance: Dataset, paths: Sequence[Path]) -> list[Any]:
    private = [(tag,) for tag in sorted(PRIVATE_TAGS)]  # the metadata may not name their block
    return [_value(instance, path) for path in (*paths, *private)]


def _value(dataset: Dataset, path: Path) -> Any:
    for tag in path[:-1]:
        items = dataset[tag].value if tag in dataset else None
        if not items:
            return None
        dataset = items[0]
    element = dataset.get_item(path[-1])
    return None if element is None else element.value
