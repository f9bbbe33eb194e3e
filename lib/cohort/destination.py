"""Where synthetic series go: a folder of their own, put in place in one step, or the PACS that the CTs come from."""

from __future__ import annotations

from pathlib import Path

from lib.cohort.pacs import PacsAddress
from lib.dicom.write.files import write_series
from lib.dicom.write.pet_series import PlannedSeries, SyntheticSeries

SERIES = "series"  # folder of the synthetic series in a cohort's folder


def write_to_folder(series: SyntheticSeries, out: Path) -> str:
    """Write a series to `out/series/<SeriesInstanceUID>`, which appears with all files; return that relative path.

    Raises:
        OutputError: The disk is full; no partial files remain.
        InputError: The folder cannot be written.
    """
    relative = f"{SERIES}/{series.uid}"
    write_series(series, out / relative)
    return relative


def write_to_pacs(series: SyntheticSeries, address: PacsAddress) -> str:
    """Store the instances of a series that the PACS does not have, and return the address of the PACS.

    Raises:
        RemoteError: The PACS cannot be reached, or does not confirm an instance; those stored before remain in it, and
            are not sent again.
    """
    pacs = address.connect()
    stored = pacs.find_instances(series.study_uid, series.uid)
    pacs.store(one for one in series.datasets() if str(one.SOPInstanceUID) not in stored)
    return address.url


def is_stored(planned: PlannedSeries, address: PacsAddress) -> bool:
    """Return whether the PACS has every instance of a planned series.

    Raises:
        RemoteError: The PACS cannot be reached.
    """
    return set(planned.instance_uids) <= address.connect().find_instances(planned.study_uid, planned.uid)
