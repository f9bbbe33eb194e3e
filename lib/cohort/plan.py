"""The CTs of a cohort: those of a folder, or of a PACS, that have the attributes of a filter, in the order of UIDs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from lib.cohort.case import Case, StoredSeries
from lib.cohort.pacs import PacsAddress, list_cts
from lib.dicom.scan.attribute_filters import series_matches
from lib.dicom.scan.header_index import default_index
from lib.dicom.scan.scan import require_series, scan_folder
from lib.errors import InputError, StudiesError
from lib.pairing.pairs import pair_series
from lib.types import Progress, no_progress

logger = logging.getLogger(__name__)

PlannedCase = tuple[Case, str]  # a CT, and the reason why it cannot be used; empty if it can


def refuse_other_modality(filters: Mapping[str, str]) -> None:
    """Raise InputError if a filter asks for anything but CTs."""
    if filters.get("Modality", "CT") != "CT":
        raise InputError(f"filter Modality={filters['Modality']}: expected CT, which PETs are synthesised from")


def plan_folder(
    folder: Path, filters: Mapping[str, str], *, limit: int = 0, progress: Progress = no_progress
) -> Iterator[PlannedCase]:
    """Yield the CTs of a folder, each with its real PET if it has one; a limit of 0 means all.

    CTs that cannot be used are included with the reason, and do not count towards the limit.

    Raises:
        StudiesError: The folder is missing, or holds no CT with these attributes.
    """
    scan = require_series(scan_folder(folder, index=default_index(), progress=progress))
    if scan.skipped:
        logger.warning(
            "%d files are no instances of a series, or cannot be read, and are left out; the first: %s",
            len(scan.skipped), scan.skipped[0].reason,
        )  # fmt: skip
    pet_of = {paired.pair.ct.uid: paired.pair.pet for paired in pair_series(scan).pairs}
    wanted = {keyword: value for keyword, value in filters.items() if keyword != "Modality"}
    usable = found = 0
    for one in sorted(scan.series, key=lambda one: one.series.uid):
        if one.series.modality != "CT" or (wanted and not series_matches(one.series, wanted)):
            continue
        found += 1
        if one.is_usable and limit and usable >= limit:
            continue
        usable += one.is_usable
        pet = pet_of.get(one.series.uid)
        case = Case(
            ct_uid=one.series.uid,
            study_uid=one.series.study_uid,
            ct=StoredSeries.of(one.series),
            pet=None if pet is None else StoredSeries.of(pet),
        )
        yield case, "" if one.is_usable else one.reason or "cannot be used"
    if not found:
        raise StudiesError(f"{folder}: holds no CT{_with(wanted)}; correct the folder or the filter")


def plan_pacs(address: PacsAddress, filters: Mapping[str, str], *, limit: int = 0) -> Iterator[PlannedCase]:
    """Yield the CTs of a PACS, whose headers are read when their turn comes; a limit of 0 means all.

    Raises:
        StudiesError: It has no CT with these attributes.
        RemoteError: It cannot be reached.
    """
    series = list_cts(address, filters)
    if not series:
        raise StudiesError(f"{address.url}: lists no CT{_with(filters)}; correct the filter")
    for one in islice(series, limit or None):
        yield Case(one.uid, one.study_uid), ""


def _with(filters: Mapping[str, str]) -> str:
    return f" with {', '.join(f'{keyword}={value}' for keyword, value in filters.items())}" if filters else ""
