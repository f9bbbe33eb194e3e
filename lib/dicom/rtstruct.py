"""Regions of interest of RT Structure Sets, and their rasterisation to voxel masks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from skimage.draw import polygon

from lib.dicom.attributes.elements import uid_name
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.slice_order import SAME_POSITION_MM
from lib.dicom.scan.scan import ScanReport
from lib.errors import DicomError, UnsupportedSeriesError
from lib.imaging.geometry import Geometry
from lib.types import BoolArray, Series

RT_STRUCTURE_SET_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
RTSTRUCT_TAGS = [0x00080016, 0x30060020, 0x30060039, 0x30060080]  # SOP class, and the three sequences of ROIs
CONTOUR_DATA = 0x30060050
AREAS = (
    "CLOSED_PLANAR",
    "CLOSED_PLANAR_XOR",
)  # ContourGeometricType of closed contours, as opposed to points and lines
HALF_A_SLICE = 0.5 + 1e-6  # rounding must not drop a plane half way between two slices
OUT_OF_PLANE_MM = 0.1  # maximum distance of a contour's points from one slice plane; writers round to 0.01 mm
TUMOUR_NAME = re.compile(r"^i?gtv|tumou?r|lesion", re.IGNORECASE)  # usual names of tumour regions

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contour:
    """One region of interest (ROI) of an RT Structure Set.

    Attributes:
        name: ROIName.
        interpreted_type: RTROIInterpretedType (GTV, ORGAN, EXTERNAL, ...), empty if absent.
        frame_of_reference_uid: Frame of reference of the coordinates.
        polygons_mm: Closed polygons, each (N, 3), LPS; polygons of one plane are combined by exclusive or (holes).
    """

    name: str
    interpreted_type: str
    frame_of_reference_uid: str
    polygons_mm: tuple[Points, ...]

    @property
    def is_tumour(self) -> bool:
        """Whether its name or its type (GTV) denotes a visible tumour."""
        return self.interpreted_type == "GTV" or TUMOUR_NAME.search(self.name) is not None

    def is_same_as(self, other: Contour) -> bool:
        """Return whether another contour has the same name and the same polygons in the same frame of reference."""
        return (
            (self.name, self.frame_of_reference_uid) == (other.name, other.frame_of_reference_uid)
            and len(self.polygons_mm) == len(other.polygons_mm)
            and all(map(np.array_equal, self.polygons_mm, other.polygons_mm))
        )


def read_contours(path: Path) -> tuple[Contour, ...]:
    """Return the regions of an RT Structure Set file, including those without a polygon.

    Raises:
        UnsupportedSeriesError: The file is DICOM but not an RT Structure Set.
        DicomError: The file cannot be opened or is damaged.

    Source: DICOM PS3.3 C.8.8.5, C.8.8.6 and C.8.8.8.
    """
    try:
        dataset = read_instance_file(path, tags=RTSTRUCT_TAGS)
        sop_class_uid = str(dataset.get("SOPClassUID", ""))
        if sop_class_uid != RT_STRUCTURE_SET_STORAGE:
            found = uid_name(sop_class_uid) or "a file without SOP class"
            raise UnsupportedSeriesError(f"{path.name}: {found}, expected RT Structure Set Storage")
        return _contours(dataset)
    except DicomError:
        raise
    except OSError as error:
        raise DicomError(f"{path.name}: cannot be opened ({error.strerror}); scan the folder again") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"{path.name}: damaged RT Structure Set ({error}); export it again") from error


def find_contours(report: ScanReport, series: Series, *mates: Series) -> tuple[Contour, ...]:
    """Return all regions in a series' frame of reference from the RT Structure Sets of its study.

    Args:
        report: The scan that lists the RT Structure Sets.
        series: The series whose frame of reference is used.
        mates: Series of other studies whose RT Structure Sets are included, such as the PET of a CT.

    Raises:
        DicomError: One of these files is damaged.
    """
    return tuple(
        contour
        for path in structure_set_files(report, series, *mates)
        for contour in read_contours(path)
        if contour.frame_of_reference_uid == series.frame_of_reference_uid
    )


def structure_set_files(report: ScanReport, *series: Series) -> tuple[Path, ...]:
    """Return the files of the RT Structure Sets of the studies that series belong to."""
    studies = {(one.patient_id, one.study_uid) for one in series}
    return tuple(
        path
        for found in report.series
        if found.series.modality == "RTSTRUCT" and (found.series.patient_id, found.series.study_uid) in studies
        for path in found.series.files
    )


def named_contour(contours: Iterable[Contour], name: str) -> Contour:
    """Return the region with a name, ignoring case.

    Raises:
        DicomError: No region has this name; the message lists the existing names.
    """
    contours = tuple(contours)
    for contour in contours:
        if contour.name.casefold() == name.casefold():
            return contour
    names = ", ".join(sorted(contour.name for contour in contours)) or "none"
    raise DicomError(f"no region is named {name!r}; regions of the study: {names}")


def rasterise(contour: Contour, geometry: Geometry, *, frame_of_reference_uid: str) -> BoolArray:
    """Return a mask of the voxels whose centre is inside a region, in the shape of the geometry.

    A slice takes the polygons of the nearest contour plane within half a slice distance; polygons of one plane are
    combined by exclusive or, so that an inner polygon is a hole. Slices between contour planes stay empty.

    Args:
        contour: The region; its polygons must be parallel to the slices.
        geometry: The grid to fill.
        frame_of_reference_uid: Frame of reference of the geometry.

    Raises:
        DicomError: The region has another frame of reference or other planes, is empty, or is outside the grid.
    """
    if contour.frame_of_reference_uid != frame_of_reference_uid:
        raise DicomError(
            f"region {contour.name!r} has frame of reference {contour.frame_of_reference_uid or 'none'}, expected "
            f"{frame_of_reference_uid or 'none'} of the volume; export the contour that was drawn on this series"
        )
    if not contour.polygons_mm:
        raise DicomError(f"region {contour.name!r} is empty: it has no closed contour; draw it or remove it")
    mask = np.zeros(geometry.shape, dtype=np.bool_)
    for k, polygons in _by_slice(contour, geometry).items():
        for polygon_mm in polygons:
            columns, rows = geometry.to_voxel(polygon_mm)[:, :2].T
            inside = polygon(rows, columns, shape=geometry.shape[1:])
            mask[k][inside] ^= True
    if not mask.any():
        raise DicomError(f"region {contour.name!r} covers no voxel of the volume: it is outside it or between slices")
    return mask


def rasterise_tumours(
    contours: Iterable[Contour], geometry: Geometry, *, frame_of_reference_uid: str
) -> tuple[BoolArray, str]:
    """Return one mask of all tumour regions, and a note with the regions used and why others were left out.

    A region that cannot be rasterised on the grid is left out; the others are still used.
    """
    mask = np.zeros(geometry.shape, np.bool_)
    notes = []
    for contour in contours:
        if not contour.is_tumour:
            continue
        try:
            mask |= rasterise(contour, geometry, frame_of_reference_uid=frame_of_reference_uid)
            notes.append(contour.name)
        except DicomError as error:
            notes.append(f"left out: {error}")
    return mask, "; ".join(notes)


def _by_slice(contour: Contour, geometry: Geometry) -> dict[int, list[Points]]:
    """Return the polygons of each slice that has some: all those of the nearest contour plane."""
    slice_mm = geometry.spacing_mm[0]
    planes = np.array([_plane(polygon_mm, contour, geometry) for polygon_mm in contour.polygons_mm])
    chosen = {}
    for k in range(geometry.shape[0]):
        distances = np.abs(planes - k)
        nearest = int(distances.argmin())
        if distances[nearest] <= HALF_A_SLICE:
            in_plane = np.abs(planes - planes[nearest]) * slice_mm < SAME_POSITION_MM
            chosen[k] = [contour.polygons_mm[i] for i in np.flatnonzero(in_plane)]
    return chosen


def _plane(polygon_mm: Points, contour: Contour, geometry: Geometry) -> float:
    """Return the position of a polygon along the slices, in slices.

    Raises:
        DicomError: The polygon crosses slices.
    """
    along = geometry.to_voxel(polygon_mm)[:, 2]
    across_mm = float(np.ptp(along)) * geometry.spacing_mm[0]
    if across_mm > 2 * OUT_OF_PLANE_MM:
        raise DicomError(
            f"region {contour.name!r}: a contour spans {across_mm:.1f} mm across the slices, expected contours in the "
            "planes of the slices; export the region as drawn on this series"
        )
    return float(along.mean())


def _contours(dataset: Dataset) -> tuple[Contour, ...]:
    polygons: dict[int, tuple[Points, ...]] = {
        int(roi.ReferencedROINumber): tuple(map(_points, filter(_is_area, roi.get("ContourSequence") or ())))
        for roi in dataset.get("ROIContourSequence") or ()
    }
    types = {
        int(observed.ReferencedROINumber): str(observed.get("RTROIInterpretedType") or "").upper()
        for observed in dataset.get("RTROIObservationsSequence") or ()
    }
    return tuple(
        Contour(
            name=str(roi.get("ROIName") or ""),
            interpreted_type=types.get(int(roi.ROINumber), ""),
            frame_of_reference_uid=str(roi.get("ReferencedFrameOfReferenceUID") or ""),
            polygons_mm=polygons.get(int(roi.ROINumber), ()),
        )
        for roi in dataset.get("StructureSetROISequence") or ()
    )


def _is_area(item: Dataset) -> bool:
    return str(item.get("ContourGeometricType") or "") in AREAS


def _points(item: Dataset) -> Points:
    """Return points, (N, 3), from the raw text: pydicom's value classes are slow for 100,000s of numbers."""
    raw = item.get_item(CONTOUR_DATA).value
    numbers = raw.decode("ascii").split("\\") if isinstance(raw, bytes) else list(raw)
    points = np.array([float(number) for number in numbers]).reshape(-1, 3)
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"a closed contour of {len(points)} points")
    return points
