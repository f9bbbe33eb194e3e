"""Reading of DICOM SEG: which series a segmentation is of, and its segments as a label map.

Frames are one bit per voxel (BINARY), probabilities (FRACTIONAL), or segment numbers (LABELMAP); frames without a voxel
may be missing. Source: DICOM PS3.3 C.8.20 (segmentation), C.7.6.16 (functional groups); PS3.5 8.1.1 (packed bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lib.dicom.attributes.elements import first_item, items_in, text_in
from lib.dicom.read.instance_file import read_instance_file
from lib.errors import DicomError, InputError, UnsupportedSeriesError
from lib.imaging.files.extent import refuse_implausible_extent
from lib.imaging.files.header_check import MAX_VOLUME_BYTES
from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelMap, label_map

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
SOP_CLASS_PREFIX = SEGMENTATION_STORAGE.rpartition(".")[0].encode()
START_BYTES = 4096  # of a file, with its SOP class: other files are recognised without parsing
UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, "")  # a deflated file is inflated to the first
MAX_FRAMES = 100_000  # 117 organs on 800 slices
MAX_FILE_BYTES = 2 * 10**9
OFF_GRID = 0.1  # largest distance of a frame from its place in a regular stack, in slice distances
SAME_PLACE_MM = 1e-2  # of two frames of one slice; writers round to 0.001
SOP_CLASS, FRAME_OF_REFERENCE, SERIES_UID = 0x00080016, 0x00200052, 0x0020000E
REFERENCED_SERIES = 0x00081115
SHARED_GROUPS, FRAME_GROUPS = 0x52009229, 0x52009230
PIXEL_MEASURES, PLANE_POSITION, PLANE_ORIENTATION = 0x00289110, 0x00209113, 0x00209116
SEGMENT_IDENTIFICATION = 0x0062000A


@dataclass(frozen=True)
class SegmentationReferences:
    """The series that a segmentation was made on, by UID, and its frame of reference; empty where it has none."""

    series_uids: frozenset[str]
    frame_of_reference_uid: str


def read_references(path: Path) -> SegmentationReferences | None:
    """Return what a DICOM SEG refers to; None for any other file.

    Raises:
        DicomError: It is a DICOM SEG, and damaged.
        OSError: The file cannot be opened.
    """
    with path.open("rb") as file:
        if SOP_CLASS_PREFIX not in file.read(START_BYTES):
            return None
    try:
        dataset = read_instance_file(path, tags=[SOP_CLASS, FRAME_OF_REFERENCE, REFERENCED_SERIES])
        sop_class_uid = text_in(dataset, SOP_CLASS)
        if sop_class_uid not in (SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE):
            return None
        series = frozenset(text_in(item, SERIES_UID) for item in items_in(dataset, REFERENCED_SERIES)) - {""}
        return SegmentationReferences(series, text_in(dataset, FRAME_OF_REFERENCE))
    except OSError:
        raise
    except Exception as error:  # a damaged file can make a parser raise anything
        raise _damaged(path, error) from error


def read_segmentation(path: Path) -> LabelMap:
    """Return the label map of a DICOM SEG file, named by its segments' labels.

    Where segments overlap, the voxel belongs to the first in the file.

    Raises:
        UnsupportedSeriesError: The pixels are compressed, or of an unknown segmentation type.
        DicomError: The file cannot be opened, is damaged, too large, or its frames do not form one stack.
        ImageFileError: No segment has a voxel.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DicomError(f"{path.name}: larger than {MAX_FILE_BYTES / 1e9:.0f} GB; export fewer segments")
        dataset = read_instance_file(path, with_pixels=True)
        return _label_map(dataset, path.name)
    except InputError:
        raise
    except OSError as error:
        raise DicomError(f"{path.name}: cannot be opened ({error.strerror})") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise _damaged(path, error) from error


def _label_map(dataset: Dataset, what: str) -> LabelMap:
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax not in UNCOMPRESSED:
        raise UnsupportedSeriesError(f"{what}: compressed segmentation ({syntax}); export it uncompressed")
    shared, frames = first_item(dataset, SHARED_GROUPS), items_in(dataset, FRAME_GROUPS)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    count = int(dataset.NumberOfFrames)
    if count != len(frames) or not 1 <= count <= MAX_FRAMES or not rows * columns > 0:
        raise DicomError(f"{what}: {count} frames with {len(frames)} descriptions, expected 1 to {MAX_FRAMES} of each")
    geometry, slices = _stack(shared, frames, (rows, columns), what)
    names = {
        int(segment.SegmentNumber): str(segment.get("SegmentLabel") or f"segment {int(segment.SegmentNumber)}")
        for segment in dataset.SegmentSequence
    }
    is_label_map = str(dataset.SegmentationType) == "LABELMAP"
    labels = np.zeros(geometry.shape, np.uint16)
    for number, (frame, k) in enumerate(zip(frames, slices, strict=True)):
        stored = _frame(dataset, number, (rows, columns), what)
        values = stored if is_label_map else (stored > 0) * np.uint16(_segment(shared, frame))
        np.copyto(labels[k], values, where=labels[k] == 0, casting="unsafe")
    return label_map(labels, geometry, names, what=what)


def _segment(shared: Dataset, frame: Dataset) -> int:
    return int(_macro(shared, frame, SEGMENT_IDENTIFICATION).ReferencedSegmentNumber)


def _macro(shared: Dataset, frame: Dataset, tag: int) -> Dataset:
    """Return a functional group of a frame, its own or the shared one."""
    return first_item(frame, tag) or first_item(shared, tag)


def _frame(dataset: Dataset, number: int, size: tuple[int, int], what: str) -> NDArray[np.uint16]:
    """Return the values of a frame, shape (R, C): 1 inside a segment, or segment numbers.

    Raises:
        DicomError: The pixel data end before the frame does.
        UnsupportedSeriesError: The type or the number of bits is unknown.
    """
    kind, bits = str(dataset.SegmentationType), int(dataset.BitsAllocated)
    if (kind, bits) not in (("BINARY", 1), ("FRACTIONAL", 8), ("LABELMAP", 8), ("LABELMAP", 16)):
        raise UnsupportedSeriesError(f"{what}: segmentation type {kind[:20]} of {bits} bits is not supported")
    length = size[0] * size[1] * bits  # in bits
    start, stop = number * length, (number + 1) * length
    content = memoryview(dataset.PixelData)[start // 8 : -(-stop // 8)]
    if len(content) < -(-stop // 8) - start // 8:
        raise DicomError(f"{what}: its pixel data end before frame {number + 1}; export it again")
    if kind == "BINARY":
        unpacked = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        return unpacked[start % 8 : start % 8 + length].reshape(size).astype(np.uint16)
    values = np.frombuffer(content, "u1" if bits == 8 else "<u2").reshape(size).astype(np.uint16)
    if kind == "FRACTIONAL":
        return (2 * values >= int(dataset.MaximumFractionalValue)).astype(np.uint16)
    return values


def _stack(
    shared: Dataset, frames: list[Dataset], size: tuple[int, int], what: str
) -> tuple[Geometry, NDArray[np.int64]]:
    """Return the geometry of the frames' slices, and the slice of each frame.

    Raises:
        DicomError: The frames are not parallel slices at regular distances.
    """
    orientation = _numbers(_macro(shared, frames[0], PLANE_ORIENTATION), "ImageOrientationPatient")
    spacing = _numbers(_macro(shared, frames[0], PIXEL_MEASURES), "PixelSpacing")
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([_numbers(_macro(shared, frame, PLANE_POSITION), "ImagePositionPatient") for frame in frames])
    for frame in frames:
        own = first_item(frame, PLANE_ORIENTATION)
        if own and not np.allclose(_numbers(own, "ImageOrientationPatient"), orientation, atol=1e-4):
            raise DicomError(f"{what}: its frames have different orientations, expected parallel slices")
    along = positions @ normal
    in_plane: NDArray[np.float64] = positions - np.outer(along, normal)
    first = int(along.argmin())
    step = _slice_spacing_mm(_macro(shared, frames[0], PIXEL_MEASURES), np.unique(along.round(3)))
    places = (along - along[first]) / step
    slices = np.rint(places).astype(np.int64)
    apart_mm = float(np.abs(in_plane - in_plane[first]).max())
    if np.abs(places - slices).max() > OFF_GRID or apart_mm > OFF_GRID * float(min(spacing)):
        raise DicomError(f"{what}: its frames are not slices at regular distances ({step:.4g} mm) of one stack")
    shape = (int(slices.max()) + 1, *size)
    if shape[0] * size[0] * size[1] * 2 > MAX_VOLUME_BYTES:
        raise DicomError(f"{what}: its frames span {shape} voxels, more than any CT")
    geometry = Geometry.from_dicom(
        shape, first_position_mm=positions[first].tolist(), orientation=orientation.tolist(),
        pixel_spacing_mm=spacing.tolist(), slice_spacing_mm=step,
    )  # fmt: skip
    refuse_implausible_extent(geometry, what)
    return geometry, slices


def _slice_spacing_mm(measures: Dataset, positions_mm: NDArray[np.float64]) -> float:
    """Return the distance between slices: as stated, else the smallest between frames, else the thickness."""
    distances = np.diff(positions_mm)
    distances = distances[distances > SAME_PLACE_MM]
    stated = float(measures.get("SpacingBetweenSlices") or 0)
    return stated or (float(distances.min()) if distances.size else float(measures.get("SliceThickness") or 1))


def _numbers(item: Dataset, keyword: str) -> NDArray[np.float64]:
    values = np.array([float(value) for value in item[keyword].value], np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{keyword} is not finite")
    return values


def _damaged(path: Path, error: Exception) -> DicomError:
    return DicomError(f"{path.name}: damaged DICOM SEG ({type(error).__name__}: {error}); export it again")
