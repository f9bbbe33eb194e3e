"""A folder of DICOM files to studies and series, each usable or with the reason why it is not. Reads headers only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lib.dicom.folder import FoundFolder, walk
from lib.dicom.header import InstanceHeader, SharedHeader
from lib.dicom.index import HeaderIndex, IndexedFile
from lib.dicom.order import Stack
from lib.dicom.read_header import read_header
from lib.dicom.stacks import volume_stack
from lib.dicom.suv import SLICES_DISAGREE, SuvState, suv_state
from lib.errors import DicomError, StudiesError
from lib.imaging.geometry import Geometry
from lib.types import Progress, Series, Study, no_progress

TELL_EVERY = 100  # files between two words of progress
REMEMBER_EVERY = 500  # files read between two writes of the index: what a killed scan reads again at most


@dataclass(frozen=True)
class SkippedFile:
    """A file that is no instance of a series: junk, truncated, unreadable, or a link out of the folder."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class ScannedSeries:
    """A series as found.

    Attributes:
        series: Its files in stack order where it is usable, else in path order.
        geometry: The regular grid of its slices; None where it is unusable.
        positions_mm: Each slice's position along the normal, as measured; empty where it is unusable.
        reason: Why it cannot be used; None where it can.
        warnings: What a careful user should know although it can be used.
        study_date: YYYYMMDD, or empty.
        matrix: (rows, columns), or None for what is no image.
        image_type: ImageType.
        has_suv: A PET that becomes SUVbw.
        suv: What a PET becomes, in words (`SUVbw (GML)`, `Bq/mL only: PatientWeight is missing`); None for the rest.
        is_synthetic: Drawn by a model (ours, or another that says so).
    """

    series: Series
    geometry: Geometry | None
    positions_mm: tuple[float, ...]
    reason: str | None
    warnings: tuple[str, ...]
    study_date: str
    matrix: tuple[int, int] | None
    image_type: tuple[str, ...]
    has_suv: bool = False
    suv: str | None = None
    is_synthetic: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether `read.py` can make a volume of it that this project works on."""
        return self.reason is None

    @property
    def is_original(self) -> bool:
        """Whether ImageType says ORIGINAL, or says nothing."""
        return self.image_type[:1] in ((), ("ORIGINAL",))

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Distance between (slices, rows, columns), where it is usable."""
        return None if self.geometry is None else self.geometry.spacing_mm


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
    folders = list(walk(root))
    total = sum(len(folder.files) for folder in folders)
    instances: list[InstanceHeader] = []
    skipped: list[SkippedFile] = []
    interned: dict[SharedHeader, SharedHeader] = {}
    done = 0
    for folder in folders:
        skipped += [SkippedFile(Path(path), reason) for path, reason in folder.refused]
        for content, path in _contents(folder, index):
            done += 1
            if done % TELL_EVERY == 0:
                progress(done, total, "reading headers")
            if isinstance(content, str):
                skipped.append(SkippedFile(Path(path), content))
            else:
                shared = interned.setdefault(content.shared, content.shared)
                instances.append(content if shared is content.shared else replace(content, shared=shared))
    progress(total, total, "reading headers")
    if index is not None:
        index.forget_folders_but(frozenset(folder.path for folder in folders), root=folders[0].path)
    series = tuple(_scanned(group) for group in _by_series(instances))
    return ScanReport(root, _studies(series), series, tuple(skipped))


def require_series(report: ScanReport) -> ScanReport:
    """Return the report.

    Raises:
        StudiesError: No DICOM series was found.
    """
    if report.series:
        return report
    files = f"; {len(report.skipped)} other file(s), first: {report.skipped[0].reason}" if report.skipped else ""
    raise StudiesError(f"{report.root}: no DICOM series found{files}; give the folder that holds the DICOM studies")


def _contents(folder: FoundFolder, index: HeaderIndex | None) -> Iterable[tuple[InstanceHeader | str, str]]:
    """Yield each file's header, or the reason why it has none, with its path."""
    known = index.known(folder.path) if index is not None else {}
    prefix = folder.path.rstrip(os.sep) + os.sep
    unsaved: dict[str, IndexedFile] = {}
    for file in folder.files:
        path = prefix + file.name
        kept = known.pop(file.name, None)
        if kept is not None and kept.mtime_ns == file.mtime_ns and kept.size == file.size:
            yield kept.content, path
            continue
        content: InstanceHeader | str
        try:
            content = read_header(path)
        except DicomError as error:
            content = str(error)
        except OSError as error:  # may be readable the next time: not remembered
            yield f"{file.name}: cannot be opened ({error.strerror})", path
            continue
        unsaved[file.name] = IndexedFile(file.size, file.mtime_ns, content)
        if index is not None and len(unsaved) >= REMEMBER_EVERY:
            index.remember(folder.path, unsaved)
            unsaved = {}
        yield content, path
    if index is not None and unsaved:
        index.remember(folder.path, unsaved)
    if index is not None and known:
        index.forget(folder.path, known)


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


def _scanned(headers: list[InstanceHeader]) -> ScannedSeries:
    """Judge one series: put its slices in order, or say why that cannot be done."""
    stack: Stack | None = None
    suv: SuvState | None = None
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    try:
        _refuse_mixed_modality(headers)
        stack, warnings = volume_stack(headers)
        suv = _suv_of(stack)
    except DicomError as error:
        reason, stack = str(error), None
    slices = sorted(headers, key=lambda header: header.path) if stack is None else stack.headers
    first = slices[0].shared
    if stack is not None:
        warnings += _careful(first, lossy=any(header.shared.is_lossy for header in slices))
    return ScannedSeries(
        series=_series(first, slices),
        geometry=None if stack is None else stack.geometry,
        positions_mm=() if stack is None else stack.positions_mm,
        reason=reason,
        warnings=warnings + (() if suv is None else suv.warnings),
        study_date=first.study_date,
        matrix=(first.rows, first.columns) if first.rows and first.columns else None,
        image_type=first.image_type,
        has_suv=suv is not None and suv.has_suv,
        suv=None if suv is None else suv.words,
        is_synthetic=first.is_synthetic,
    )


def _refuse_mixed_modality(headers: list[InstanceHeader]) -> None:
    modalities = sorted({header.shared.modality for header in headers})
    if len(modalities) > 1:
        raise DicomError(f"its files are of several modalities ({', '.join(modalities)}), expected one")


def _suv_of(stack: Stack) -> SuvState | None:
    pets = {header.shared.pet for header in stack.headers if header.shared.pet is not None}
    if not pets:
        return None
    if len(pets) > 1:
        raise DicomError(SLICES_DISAGREE)
    return suv_state(pets.pop(), {header.shared.bed for header in stack.headers if header.shared.bed is not None})


def _careful(shared: SharedHeader, *, lossy: bool) -> tuple[str, ...]:
    warnings = []
    if shared.modality == "CT" and shared.image_type[:1] == ("DERIVED",):
        warnings.append("ImageType DERIVED: a reformatted or processed CT, not the scanner's own")
    if lossy:
        warnings.append("lossy compression: the numbers are not quite those that were measured")
    return tuple(warnings)


def _series(shared: SharedHeader, headers: Sequence[InstanceHeader]) -> Series:
    return Series(
        uid=shared.series_instance_uid,
        study_uid=shared.study_instance_uid,
        patient_id=shared.patient_id,
        modality=shared.modality,
        frame_of_reference_uid=shared.frame_of_reference_uid,
        description=shared.series_description,
        files=_paths(headers),
    )


def _paths(headers: Sequence[InstanceHeader]) -> tuple[Path, ...]:
    """Return the files; each folder is parsed once, which halves the time of a scan that opens no file."""
    folders: dict[str, Path] = {}
    paths = []
    for header in headers:
        folder, _, name = header.path.rpartition(os.sep)
        parent = folders.get(folder)
        if parent is None:
            parent = folders[folder] = Path(folder + os.sep)
        paths.append(parent / name)
    return tuple(paths)


def _studies(series: tuple[ScannedSeries, ...]) -> tuple[Study, ...]:
    studies: dict[str, list[ScannedSeries]] = {}
    for found in series:
        studies.setdefault(found.series.study_uid, []).append(found)
    return tuple(
        Study(uid, members[0].series.patient_id, members[0].study_date, tuple(found.series for found in members))
        for uid, members in studies.items()
    )
