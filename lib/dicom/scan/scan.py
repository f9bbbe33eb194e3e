"""A folder of DICOM files to studies and series, each usable or with the reason why it is not. Reads headers only."""

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
from lib.imaging.files.failed_files import failed_files
from lib.types import Progress, Study, no_progress

__all__ = ["ScanReport", "ScannedSeries", "SkippedFile", "require_series", "scan_folder", "studies_of"]

OBJECTS_BETWEEN_COLLECTIONS = 200_000
PROGRESS_INTERVAL_FILES = 100  # files between two words of progress
INDEX_BATCH_FILES = 500  # files read between two writes of the index: what a killed scan reads again at most


@dataclass(frozen=True)
class SkippedFile:
    """A file that is no instance of a series: junk, truncated, unreadable, or a link out of the folder."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class ScanReport:
    """All that was found under a folder, in the order of patient, study and series UID."""

    root: Path
    studies: tuple[Study, ...]
    series: tuple[ScannedSeries, ...]
    skipped: tuple[SkippedFile, ...]

    def usable(self, modality: str) -> tuple[ScannedSeries, ...]:
        """Return the usable series of a modality (CT or PT)."""
        return tuple(found for found in self.series if found.is_usable and found.series.modality == modality)

    def find(self, series_uid: str) -> ScannedSeries | None:
        """Return the series with a UID, or None."""
        return next((found for found in self.series if found.series.uid == series_uid), None)


def scan_folder(root: Path, *, index: HeaderIndex | None = None, progress: Progress = no_progress) -> ScanReport:
    """Return the studies and series of every DICOM file under a folder; an empty folder gives an empty report.

    Args:
        root: The folder; links in it are not followed.
        index: Headers read before. Files that have not changed since are not opened.
        progress: Told how many files of how many have been looked at.

    Raises:
        StudiesError: The folder is missing, is a file, or may not be read.
    """
    with _rare_garbage_collection():
        folders = list(walk(root))
        instances, skipped = _headers(folders, index, progress)
        if index is not None:
            index.forget_folders_but(frozenset(folder.path for folder in folders), root=folders[0].path)
        series = tuple(
            judge_series(group, fault=_known_fault(group)) for group in rejoin_split_series(_by_series(instances))
        )
    return ScanReport(root, studies_of(series), series, tuple(skipped))


def require_series(report: ScanReport) -> ScanReport:
    """Return the report.

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
    """Return the header of every file, each shared part once in memory, and the files that have none."""
    instances: list[InstanceHeader] = []
    skipped: list[SkippedFile] = []
    interned: dict[SharedHeader, SharedHeader] = {}
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
                shared = interned.setdefault(header.shared, header.shared)
                instances.append(header if shared is header.shared else replace(header, shared=shared))
    progress(total, total, "reading headers")
    return instances, skipped


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Spare the collector from visiting a hundred thousand headers again and again: it took a third of a scan."""
    usual = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _contents(folder: FoundFolder, index: HeaderIndex | None) -> Iterable[tuple[Content, str]]:
    """Yield the headers of each file's slices, or the reason why it has none, with its path."""
    known = index.known(folder.path) if index is not None else {}
    prefix = folder.path.rstrip(os.sep) + os.sep
    unsaved: dict[str, IndexedFile] = {}
    for file in folder.files:
        path = prefix + file.name
        kept = known.pop(file.name, None)
        if kept is not None and kept.mtime_ns == file.mtime_ns and kept.size == file.size:
            yield kept.content, path
            continue
        content: Content
        try:
            content = slice_headers(read_header(path))
        except DicomError as error:
            content = str(error)
        except OSError as error:  # may be readable the next time: not remembered
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


def _known_fault(headers: Sequence[InstanceHeader]) -> str:
    """Return what is known of a compressed file that once ended or stalled its decoder; empty where there is none."""
    failed = failed_files()
    if failed.is_empty():
        return ""
    for path in sorted({header.path for header in headers if not is_plain_encoding(header.shared.transfer_syntax_uid)}):
        outcome = failed.outcome_of(Path(path))
        if outcome:
            return f"{Path(path).name}: is damaged: decoding it {outcome}; copy it again, or export it uncompressed"
    return ""


def _by_series(instances: list[InstanceHeader]) -> list[list[InstanceHeader]]:
    groups: dict[tuple[str, str, str], list[InstanceHeader]] = {}
    home: dict[int, list[InstanceHeader]] = {}  # headers are shared objects: look each one up once
    for header in instances:
        members = home.get(id(header.shared))
        if members is None:
            shared = header.shared
            key = (shared.patient_id, shared.study_instance_uid, shared.series_instance_uid)
            members = home[id(shared)] = groups.setdefault(key, [])
        members.append(header)
    return [groups[key] for key in sorted(groups)]


def studies_of(series: Iterable[ScannedSeries]) -> tuple[Study, ...]:
    """Return the studies that series belong to, in the order of their first series."""
    studies: dict[str, list[ScannedSeries]] = {}
    for found in series:
        studies.setdefault(found.series.study_uid, []).append(found)
    return tuple(
        Study(uid, members[0].series.patient_id, members[0].study_date, tuple(found.series for found in members))
        for uid, members in studies.items()
    )
