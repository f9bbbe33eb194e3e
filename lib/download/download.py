"""Studies out of the open archives: what a cohort's selection names, into a folder that `scan` reads.

OUT/PatientID/StudyInstanceUID/SeriesInstanceUID/*.dcm, with download.json and ATTRIBUTION.md beside the patients.
A series is done when as many files and bytes lie there as the archive's list says; asked again, only the rest is
fetched.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lib.download.cohort import Selection
from lib.download.idc import IndexedSeries
from lib.download.manifest import is_complete, series_folder, write_manifest
from lib.download.transfer import S3Client, arrived, fetch
from lib.errors import DownloadError, InputError
from lib.types import Progress, no_progress

MAX_CONSECUTIVE_FAILURES = 3  # then it is the line, not the series


@dataclass(frozen=True)
class FailedSeries:
    """A series that did not arrive whole, and why."""

    patient_id: str
    series_instance_uid: str
    reason: str


@dataclass(frozen=True)
class DownloadReport:
    """What came of a download: series that arrived now, that lay there already, and that failed."""

    out: Path
    fetched: int
    reused: int
    failed: tuple[FailedSeries, ...]


def missing_bytes(selection: Selection, out: Path) -> int:
    """Return how much of a selection is still to be fetched into `out`."""
    return sum(max(0, series.size_bytes - arrived(series_folder(out, series))[1]) for series in selection.series)


def download(selection: Selection, out: Path, *, client: S3Client, progress: Progress = no_progress) -> DownloadReport:
    """Fetch a selection into a folder and return what came of it; one series that fails does not stop the others.

    Raises:
        InputError: `out` is a file, holds another's download.json, or lies on a disk that is too small.
        DownloadError: Several series failed in a row, or the folder cannot be written. Asked again, it goes on.
    """
    _check_folder(selection, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_manifest(out, selection.series)
        try:
            return _fetch_all(selection, out, client, progress)
        finally:
            write_manifest(out, selection.series)
    except OSError as error:
        raise DownloadError(
            f"{out}: cannot be written ({error.strerror}); put that right and run the same command again: it goes on"
        ) from error


def _fetch_all(selection: Selection, out: Path, client: S3Client, progress: Progress) -> DownloadReport:
    failed: list[FailedSeries] = []
    fetched = reused = in_a_row = before_bytes = 0
    total = len(selection.series)
    for done, series in enumerate(selection.series):
        tell = partial(_tell, progress, selection, series, done, before_bytes)
        tell(0)
        if is_complete(out, series):
            reused += 1
        elif (reason := _fetch_series(series, out, client, tell)) is None:
            fetched, in_a_row = fetched + 1, 0
        else:
            failed.append(FailedSeries(series.patient_id, series.series_instance_uid, reason))
            in_a_row += 1
        if in_a_row == MAX_CONSECUTIVE_FAILURES:
            raise DownloadError(
                f"{in_a_row} series in a row failed, the last ({series.series_instance_uid}) with: "
                f"{failed[-1].reason}; {fetched + reused} of {total} are complete; "
                "once that is put right run the same command again: it goes on"
            )
        before_bytes += series.size_bytes
    progress(total, total, f"{before_bytes / 1e9:.2f} GB")
    return DownloadReport(out, fetched, reused, tuple(failed))


def _fetch_series(series: IndexedSeries, out: Path, client: S3Client, tell: Callable[[int], None]) -> str | None:
    """Return why a series did not arrive whole, None where it did."""
    folder = series_folder(out, series)
    try:
        fetch(client, series.url, folder, on_bytes=tell)
    except DownloadError as error:
        return str(error)
    if is_complete(out, series):
        return None
    files, size_bytes = arrived(folder)
    return (
        f"{files} files with {size_bytes} bytes arrived, expected {series.images} with {series.size_bytes}; remove "
        f"{folder} and try again; should that not help, the archive has changed: install a newer idc-index-data"
    )


def _tell(
    progress: Progress, selection: Selection, series: IndexedSeries, done: int, before_bytes: int, here_bytes: int
) -> None:
    gigabytes = f"{(before_bytes + here_bytes) / 1e9:.2f} of {selection.size_bytes / 1e9:.2f} GB"
    progress(done, len(selection.series), f"{gigabytes}, {series.patient_id} {series.modality}")


def _check_folder(selection: Selection, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder to download into")
    there = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(there).free
    wanted_bytes = missing_bytes(selection, out)
    if wanted_bytes > free_bytes:
        raise InputError(
            f"{out}: {wanted_bytes / 1e9:.1f} GB to fetch, {free_bytes / 1e9:.1f} GB free; take fewer with --patients, "
            "or name a larger disk"
        )
