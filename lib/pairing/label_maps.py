"""Which label map of a folder belongs to which CT, and its organs on the CT's grid.

A DICOM SEG names its CT by referenced series or frame of reference. A NIfTI file, or a folder with one file per organ,
has the CT's SeriesInstanceUID or patient ID in its path below the folder; for a single CT, neither is needed. The first
of these rules that finds a label map decides. It must overlap the CT, and its organs lie inside the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.dicom.read.segmentation import SegmentationReferences, read_references, read_segmentation
from lib.dicom.scan.folder import FoundFolder, walk
from lib.errors import InputError, PairingError
from lib.files import states_digest
from lib.imaging.files.label_file import header_names, json_names, nifti_stem, read_label_file, read_organ_files
from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelMap, Organs, organ_name
from lib.imaging.orientation import canonical_geometry
from lib.imaging.resample import organs_on
from lib.types import BoolArray, Series

NAMES_FILE = "labels.json"  # label names of the files in its folder, and in the folders below
NO_SEGMENTATION = (".json", ".nrrd", ".mha", ".png", ".csv", ".txt", ".html", ".safetensors", ".npy")
MIN_INSIDE_BODY = 0.7  # of the labelled voxels on the CT; organs of the same patient have more than 0.95


@dataclass(frozen=True)
class LabelSource:
    """A label map of a folder.

    Attributes:
        name: Its path below the folder, for messages.
        files: A DICOM SEG or a NIfTI file with named labels; or the NIfTI files of single organs.
        references: Of a DICOM SEG.
        names: JSON file with the names of the labels.
        is_by_organ: Whether each file is one organ.
    """

    name: str
    files: tuple[Path, ...]
    references: SegmentationReferences | None = None
    names: Path | None = None
    is_by_organ: bool = False

    def read(self) -> LabelMap:
        """Return the label map.

        Raises:
            InputError: It cannot be read; the message names the file.
        """
        if self.references is not None:
            return read_segmentation(self.files[0])
        if self.is_by_organ:
            return read_organ_files(self.files)
        return read_label_file(self.files[0], names=self.names)


@dataclass(frozen=True)
class LabelMaps:
    """The label maps of a folder, assigned to CTs.

    Attributes:
        candidates: By SeriesInstanceUID of the CT: the label maps that its rule finds.
        unreadable: Files that look like label maps and cannot be read, with the reason.
    """

    candidates: dict[str, tuple[LabelSource, ...]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    def fingerprint(self, ct: Series) -> str:
        """Return a hash over the states of a CT's label files; empty without any.

        Raises:
            OSError: A file is missing.
        """
        sources = self.candidates.get(ct.uid, ())
        files = [path for source in sources for path in (*source.files, *([source.names] if source.names else []))]
        return states_digest(files)[:32] if files else ""

    def read(self, ct: Series, geometry: Geometry) -> LabelMap:
        """Return the label map of a CT.

        Args:
            ct: The CT.
            geometry: Its grid, or that of the network, in canonical order; it decides between several candidates.

        Raises:
            InputError: There is none or several, or it cannot be read.
        """
        sources = self.candidates.get(ct.uid, ())
        if not sources:
            more = "".join(f"; {reason}" for reason in self.unreadable)
            raise PairingError(
                f"no label map of CT {ct.uid}: expected a DICOM SEG that refers to it, or a NIfTI file or folder with "
                f"the series UID or the patient ID in its name{more}"
            )
        if len(sources) == 1:
            return sources[0].read()
        return _select(sources, ct, geometry)


def find_label_maps(root: Path, cts: Sequence[Series]) -> LabelMaps:
    """Return the label maps in a folder, searched recursively; reads headers only. Symbolic links are not followed.

    Args:
        root: The folder.
        cts: All CTs that need one; a name belongs to the CT with the longest matching UID or patient ID.

    Raises:
        InputError: The folder does not exist or cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder with the label maps")
    sources: list[LabelSource] = []
    unreadable: list[str] = []
    keys = {key for ct in cts for key in (ct.uid, ct.patient_id) if key}
    folders = list(walk(root))
    tables = {Path(found.path) for found in folders if any(file.name == NAMES_FILE for file in found.files)}
    real_root = Path(folders[0].path)
    for found in folders:
        sources += _nifti_sources(found, real_root, keys, tables, unreadable)
        sources += _segmentations(found, real_root, unreadable)
    return LabelMaps({ct.uid: _candidates(ct, sources, keys, is_only=len(cts) == 1) for ct in cts}, tuple(unreadable))


def place_organs(label_map: LabelMap, geometry: Geometry, *, body: BoolArray, measured: BoolArray) -> Organs:
    """Return the organs on the grid of a CT, by nearest neighbour.

    Args:
        label_map: On any grid.
        geometry: The grid.
        body: The CT's body mask on the grid, (K, R, C); only its measured part needs to be right.
        measured: Voxels where the PET was measured, (K, R, C).

    Raises:
        PairingError: The label map does not overlap the grid, or its organs are not inside the body.
    """
    organs = organs_on(label_map, geometry)
    labelled = organs.labels > 0
    if not labelled.any():
        raise PairingError("the label map does not overlap the CT: none of its organs is in the CT's field of view")
    labelled &= measured
    inside = float((labelled & body).sum()) / max(1, int(labelled.sum()))
    if labelled.any() and inside < MIN_INSIDE_BODY:
        raise PairingError(
            f"the label map does not fit the CT: {inside:.0%} of its voxels are inside the body, expected at least "
            f"{MIN_INSIDE_BODY:.0%}; is it of another patient, or mirrored?"
        )
    return organs


def _nifti_sources(
    found: FoundFolder, root: Path, keys: Iterable[str], tables: set[Path], unreadable: list[str]
) -> list[LabelSource]:
    """Return the label maps of the NIfTI files of one folder: each with named labels, the others together.

    A table of names describes files with several labels. It does not apply to a folder with one file per organ, which
    is recognised by a file that is named as one of the table's organs.
    """
    folder = Path(found.path)
    table = next((parent / NAMES_FILE for parent in _upward(folder, root) if parent in tables), None)
    names = {file.name for file in found.files}
    if table is not None and _is_by_organ(names, table):
        table = None
    sources, organs = [], []
    for file in found.files:
        path, stem = folder / file.name, nifti_stem(file.name)
        if not stem:
            continue
        own = folder / f"{stem}.json" if f"{stem}.json" in names else table
        try:
            is_named = bool(header_names(path))
        except InputError as error:
            unreadable.append(str(error))
            continue
        if is_named or own is not None or _longest(stem, keys):
            sources.append(LabelSource(str(path.relative_to(root)), (path,), names=own))
        else:
            organs.append(path)
    if organs:
        sources.append(LabelSource(str(folder.relative_to(root)), tuple(organs), is_by_organ=True))
    return sources


def _is_by_organ(names: Iterable[str], table: Path) -> bool:
    """Return whether a NIfTI file is named as one of the organs in a table; a damaged table is reported when read."""
    try:
        organs = {organ_name(name) for name in json_names(table).values()}
    except InputError:
        return False
    return any(organ_name(nifti_stem(name)) in organs for name in names if nifti_stem(name))


def _segmentations(found: FoundFolder, root: Path, unreadable: list[str]) -> list[LabelSource]:
    sources = []
    for file in found.files:
        path = Path(found.path, file.name)
        if nifti_stem(file.name) or file.name.lower().endswith(NO_SEGMENTATION):
            continue
        try:
            references = read_references(path)
        except (InputError, OSError) as error:
            unreadable.append(str(error))
            continue
        if references is not None:
            sources.append(LabelSource(str(path.relative_to(root)), (path,), references=references))
    return sources


def _candidates(
    ct: Series, sources: Iterable[LabelSource], keys: Iterable[str], *, is_only: bool
) -> tuple[LabelSource, ...]:
    """Return the label maps that the first rule with a match finds."""
    segmentations = [(source, source.references) for source in sources if source.references is not None]
    files = [(source, _longest(source.name, keys)) for source in sources if source.references is None]
    frame_uid = ct.frame_of_reference_uid
    rules = (
        [source for source, of in segmentations if ct.uid in of.series_uids],
        [source for source, key in files if key == ct.uid],
        [source for source, of in segmentations if frame_uid and of.frame_of_reference_uid == frame_uid],
        [source for source, key in files if ct.patient_id and key == ct.patient_id],
        [source for source, key in files if is_only and not key],
    )
    return tuple(next((matching for matching in rules if matching), ()))


def _select(sources: Sequence[LabelSource], ct: Series, geometry: Geometry) -> LabelMap:
    """Return the only readable label map that is on the CT's grid, or overlaps it."""
    readable: list[tuple[LabelSource, LabelMap]] = []
    reasons = []
    for source in sources:
        try:
            label_map = source.read()
        except InputError as error:
            reasons.append(f"{source.name}: {error}")
            continue
        if (organs_on(label_map, geometry).labels > 0).any():
            readable.append((source, label_map))
        else:
            reasons.append(f"{source.name}: does not overlap the CT")
    same = [label_map for _, label_map in readable if _has_same_edges(label_map.geometry, geometry)]
    chosen = same or [label_map for _, label_map in readable]
    if len(chosen) == 1:
        return chosen[0]
    found = "; ".join([*(source.name for source, _ in readable), *reasons])
    raise PairingError(
        f"{len(chosen)} label maps fit CT {ct.uid}, expected one ({found}); leave one, or name it by the series UID"
    )


def _has_same_edges(label_map: Geometry, grid: Geometry) -> bool:
    """Return whether two grids have the same slices and outer edges; the second is in canonical order."""
    return canonical_geometry(label_map).with_pixels(*grid.shape[1:]).same_grid_as(grid)


def _longest(name: str, keys: Iterable[str]) -> str:
    """Return the longest key that is a whole part of a path: not within a longer word, number or UID."""
    found = [key for key in keys if re.search(rf"(?<![^\W_])(?<!\d\.){re.escape(key)}(?![^\W_])(?!\.\d)", name)]
    return max(found, key=len, default="")


def _upward(folder: Path, root: Path) -> list[Path]:
    """Return a folder and its parents up to the root."""
    return [parent for parent in (folder, *folder.parents) if parent == root or root in parent.parents]
