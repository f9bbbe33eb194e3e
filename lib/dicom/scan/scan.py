"""Scanning of a folder of DICOM files for studies and series, from headers only."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lib.dicom.attributes.transfer_syntax import is_plain_encoding
from lib.dicom.instance_header import InstanceHeader, SharedHeader
from lib.dicom.read.consistency import rejoin_split_series
from lib.dicom.read.header import read_header
from lib.dicom.read.multiframe import slice_headers
from lib.dicom.scan.folder import FoundFolder, walk
from lib.dicom.scan.header_index import Content, HeaderIndex, IndexedFile
from lib.dicom.scan.series import ScannedSeries, judge_series
from lib.errors import DicomError, StudiesError
from lib.imaging.files.failed_files import FailedFiles, failed_files
from lib.types import Progress, Study, no_progress

__all__ = ["ScanReport", "ScannedSeries", "SkippedFile", "require_series", "scan_folder", "studies_of"]

OBJECTS_BETWEEN_COLLECTIONS = 200_000
PROGRESS_INTERVAL_FILES = 100  # files between two progress reports
INDEX_BATCH_FILES = 500  # files between two writes of the index, which a killed scan has to read again at most


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not an instance of a series: another format, truncated, unreadable, or an external link."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class ScanReport:
    """The content of a folder, sorted by patient, study and series UID."""

    root: Path
    studies: tuple[Study, ...]
    series: tuple[ScannedSeries, ...]
    skipped: tuple[SkippedFile, ...]

    def usable(self, modality: str) -> tuple[ScannedSeries, ...]:
        """Return the usable series of a modality (CT or PT)."""
        return tuple(found for found in self.series if found.is_usable and found.series.modality == modality)

    def find(self, series_uid: str) -> ScannedSeries | None:
        """Return the series with a UID, or None if there is none."""
        return next((found for found in self.series if found.series.uid == series_uid), None)


def scan_folder(root: Path, *, index: HeaderIndex | None = None, progress: Progress = no_progress) -> ScanReport:
    """Return the studies and series of all DICOM files under a folder; an empty folder gives an empty report.

    Args:
        root: The folder; links in it are not followed.
        index: Cache of headers. Files that have not changed since are not opened.
        progress: Called with the number of files read and the total.

    Raises:
        StudiesError: The folder is missing, is a file, or cannot be read.
    """
    with _rare_garbage_collection():
        folders = list(walk(root))
        instances, skipped = _headers(folders, index, progress)
        if index is not None:
            index.forget_folders_but(frozenset(folder.path for folder in folders), root=folders[0].path)
        groups, failed = rejoin_split_series(_by_series(instances)), failed_files()
        has_failed = not failed.is_empty()
        series = tuple(judge_series(group, fault=_known_fault(group, failed) if has_failed else "") for group in groups)
    return ScanReport(root, studies_of(series), series, tuple(skipped))


def require_series(report: ScanReport) -> ScanReport:
    """Return the report if it has a DICOM series.

    Raises:
        StudiesError: No DICOM series was found.
    """
    if report.series:
        return report
    files = f"; {len(report.skipped)} other file(s), first: {report.skipped[0].reason}" if report.skipped else ""
    raise StudiesError(f"{report.root}: no DICOM series found{files}; give the folder that holds the DICOM studies")


def _headers(
    folders: list[FoundFolder], index: HeaderIndex | None, progress: Progress
) -> tuple[list[InstanceHeader], list[SkippedFile]]:
    """Return the headers of all files, with shared parts in memory once, and the files without a header."""
    instances: list[InstanceHeader] = []
    skipped: list[SkippedFile] = []
    interned: dict[SharedHeader, SharedHeader] = {}
    shared = last = None
    total = sum(len(folder.files) for folder in folders)
    done = 0
    for folder in folders:
        skipped += [SkippedFile(Path(path), reason) for path, reason in folder.refused]
        for content, path in _contents(folder, index):
            done += 1
            if done % PROGRESS_INTERVAL_FILES == 0:
                progress(done, total, "reading headers")
            if isinstance(content, str):
                skipped.append(SkippedFile(Path(path), content))
                continue
            for header in content:
                if shared is None or header.shared is not last:  # neighbours often share the object already
                    last = header.shared
                    shared = interned.setdefault(last, last)
                instances.append(header if shared is header.shared else replace(header, shared=shared))
    progress(total, total, "reading headers")
    return instances, skipped


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Reduce garbage collection, which took a third of the time of a scan of 100,000 headers."""
    usual = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _contents(folder: FoundFolder, index: HeaderIndex | None) -> Iterable[tuple[Content, str]]:
    """Yield the headers of each file's slices, or the reason why there are none, with the file's path."""
    known = index.known(folder.path) if index is not None else {}
    prefix = folder.path.rstrip(os.sep) + os.sep
    unsaved: dict[str, IndexedFile] = {}
    for file in folder.files:
        path = prefix + file.name
        cached = known.pop(file.name, None)
        if cached is not None and cached.mtime_ns == file.mtime_ns and cached.size == file.size:
            yield cached.content, path
            continue
        content: Content
        try:
            content = slice_headers(read_header(path))
        except DicomError as error:
            content = str(error)
        except OSError as error:  # may be readable the next time: not cached
            yield f"{file.name}: cannot be opened ({error.strerror})", path
            continue
        unsaved[file.name] = IndexedFile(file.size, file.mtime_ns, content)
        if index is not None and len(unsaved) >= INDEX_BATCH_FILES:
            index.remember(folder.path, unsaved)
            unsaved = {}
        yield content, path
    if index is not None and unsaved:
        index.remember(folder.path, unsaved)
    if index is not None and known:
        index.forget(folder.path, known)


def _known_fault(headers: Sequence[InstanceHeader], failed: FailedFiles) -> str:
    """Return the recorded fault of a compressed file that crashed or stalled its decoder; empty if there is none."""
    for path in sorted({header.path for header in headers if not is_plain_encoding(header.shared.transfer_syntax_uid)}):
        outcome = failed.outcome_of(Path(path))
        if outcome:
            return f"{Path(path).name}: is damaged: decoding it {outcome}; copy it again, or export it uncompressed"
    return ""


def _by_series(instances: list[InstanceHeader]) -> list[list[InstanceHeader]]:
    groups: dict[tuple[str, str, str], list[InstanceHeader]] = {}
    group_of: dict[int, list[InstanceHeader]] = {}  # headers are shared objects: one lookup per object
    for header in instances:
        members = group_of.get(id(header.shared))
        if members is None:
            shared = header.shared
            key = (shared.patient_id, shared.study_instance_uid, shared.series_instance_uid)
            members = group_of[id(shared)] = groups.setdefault(key, [])
        members.append(header)
    return [groups[key] for key in sorted(groups)]


def studies_of(series: Iterable[ScannedSeries]) -> tuple[Study, ...]:
    """Return the studies of series, in the order of their first series."""
    studies: dict[str, list[ScannedSeries]] = {}
    for found in series:
        studies.setdefault(found.series.study_uid, []).append(found)
    return tuple(
        Study(uid, members[0].series.patient_id, members[0].study_date, tuple(found.series for found in members))
        for uid, members in studies.items()
    )
