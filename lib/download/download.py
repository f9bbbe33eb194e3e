"""Download of the selected series of a cohort into a folder.

The layout is OUT/PatientID/StudyInstanceUID/SeriesInstanceUID/*.dcm, with download.json and ATTRIBUTION.md in OUT. A
series is complete if its files and bytes equal those in the archive's index; another run fetches only the rest.
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
from lib.download.transfer import S3Client, downloaded, fetch
from lib.errors import DownloadError, InputError
from lib.types import Progress, no_progress

MAX_CONSECUTIVE_FAILURES = 3  # more indicate a connection problem


@dataclass(frozen=True)
class FailedSeries:
    """A series that was not downloaded completely, and the reason."""

    patient_id: str
    series_instance_uid: str
    reason: str


@dataclass(frozen=True)
class DownloadReport:
    """The result of a download: numbers of fetched and reused series, and failed series."""

    out: Path
    fetched: int
    reused: int
    failed: tuple[FailedSeries, ...]


def missing_bytes(selection: Selection, out: Path) -> int:
    """Return the number of bytes of a selection that are not in `out` yet."""
    return sum(max(0, series.size_bytes - downloaded(series_folder(out, series))[1]) for series in selection.series)


def download(selection: Selection, out: Path, *, client: S3Client, progress: Progress = no_progress) -> DownloadReport:
    """Fetch a selection into a folder and return the result; a series that fails does not stop the others.

    Raises:
        InputError: `out` is a file, has a foreign download.json, or the disk is too small.
        DownloadError: Several consecutive series failed, or the folder cannot be written. Another run continues.
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
            f"{out}: cannot be written ({error.strerror}); correct this and resume: complete series are kept",
            code="download_interrupted",
        ) from error


def _fetch_all(selection: Selection, out: Path, client: S3Client, progress: Progress) -> DownloadReport:
    failed: list[FailedSeries] = []
    fetched = reused = in_a_row = previous_bytes = 0
    total = len(selection.series)
    for done, series in enumerate(selection.series):
        report = partial(_report_progress, progress, selection, series, done, previous_bytes)
        report(0)
        if is_complete(out, series):
            reused += 1
        elif (reason := _fetch_series(series, out, client, report)) is None:
            fetched, in_a_row = fetched + 1, 0
        else:
            failed.append(FailedSeries(series.patient_id, series.series_instance_uid, reason))
            in_a_row += 1
        if in_a_row == MAX_CONSECUTIVE_FAILURES:
            raise DownloadError(
                f"{in_a_row} series in a row failed, the last ({series.series_instance_uid}) with: "
                f"{failed[-1].reason}; {fetched + reused} of {total} are complete; "
                "correct this and resume: complete series are kept",
                code="download_interrupted",
                complete=fetched + reused,
                total=total,
            )
        previous_bytes += series.size_bytes
    progress(total, total, f"{previous_bytes / 1e9:.2f} GB")
    return DownloadReport(out, fetched, reused, tuple(failed))


def _fetch_series(series: IndexedSeries, out: Path, client: S3Client, report: Callable[[int], None]) -> str | None:
    """Return why a series was not downloaded completely; None if it was."""
    folder = series_folder(out, series)
    try:
        fetch(client, series.url, folder, on_bytes=report)
    except DownloadError as error:
        return str(error)
    if is_complete(out, series):
        return None
    files, size_bytes = downloaded(folder)
    return (
        f"{files} files with {size_bytes} bytes arrived, expected {series.images} with {series.size_bytes}; remove "
        f"{folder} and try again; should that not help, the archive has changed: install a newer idc-index-data"
    )


def _report_progress(
    progress: Progress, selection: Selection, series: IndexedSeries, done: int, previous_bytes: int, series_bytes: int
) -> None:
    gigabytes = f"{(previous_bytes + series_bytes) / 1e9:.2f} of {selection.size_bytes / 1e9:.2f} GB"
    progress(done, len(selection.series), f"{gigabytes}, {series.patient_id} {series.modality}")


def _check_folder(selection: Selection, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder to download into")
    existing = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    required_bytes = missing_bytes(selection, out)
    if required_bytes > free_bytes:
        raise InputError(
            f"{out}: {required_bytes / 1e9:.1f} GB to fetch, {free_bytes / 1e9:.1f} GB free; download fewer patients, "
            "or choose a larger disk",
            code="disk_too_small",
            needed_bytes=required_bytes,
            free_bytes=free_bytes,
        )
