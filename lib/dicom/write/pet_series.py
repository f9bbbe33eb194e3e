"""The synthetic PET of a CT as a DICOM series (Positron Emission Tomography Image Storage) in the CT's study.

It is recognisable for users and for `scan` by SyntheticData YES, ImageType DERIVED, a SeriesDescription that begins
with SYNTHETIC, a derivation code, the model as contributing equipment, and the source CT slices (`synthetic_marks`).
Attributes of a measurement are empty: tracer, dose, corrections, acquisition time.

UIDs and headers are determined by the CT and the model's checksum: a slice synthesised and stored again is the same
instance, and slices of a slab equal those of the entire series.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage

from lib.dicom.attributes.value_rules import UID
from lib.dicom.read.header import HEADER_TAGS, header_of
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.multiframe import Frame, is_multi_frame, read_frame_headers
from lib.dicom.read.slice_order import order_stack
from lib.dicom.write.copied_attributes import COPIED_TAGS, copy_patient_and_study
from lib.dicom.write.derivation import SourceModel
from lib.dicom.write.instance import InstanceEncoder, derived_uid, instance_dataset, source_of
from lib.errors import DicomError, UnsupportedSeriesError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.types import Series, SliceSource

__all__ = ["PlannedSeries", "SourceModel", "SyntheticSeries", "derived_uid", "plan_series"]


@dataclass(frozen=True, eq=False)
class PlannedSeries:
    """A synthetic series without pixels, so that it can be refused or recognised before synthesis.

    Attributes:
        uid: Its SeriesInstanceUID.
        study_uid: The CT's study.
        ct_uid: The CT's SeriesInstanceUID.
        geometry: The CT's.
        slices: The CT's headers in stack order.
        frames: Frame number of each slice, from 1; 0 if the file is a single slice.
        shared: Attributes that all instances copy from the CT.
        source_model: The model.
        reach: Number of adjacent CT slices on each side that the model uses.
        warning: About this PET, for readers; the comment of each instance begins with it.
    """

    uid: str
    study_uid: str
    ct_uid: str
    geometry: Geometry
    slices: tuple[Dataset, ...]
    frames: tuple[int, ...]
    shared: Dataset
    source_model: SourceModel
    reach: int = 0
    warning: str = ""

    def fill(self, pet: Volume) -> SyntheticSeries:
        """Return the series with the pixels of a PET in SUVbw on the CT's grid or on a slab of it.

        Raises:
            UnsupportedSeriesError: The PET has another unit or another grid.
        """
        if pet.unit is not Unit.SUV_BW:
            raise UnsupportedSeriesError(f"a synthetic PET is stored in SUVbw, found a volume in {pet.unit.value}")
        step = (pet.geometry.affine[:3, 3] - self.geometry.affine[:3, 3]) @ self.geometry.normal
        first = round(float(step) / self.geometry.spacing_mm[0])
        end = first + pet.geometry.shape[0]
        on_grid = 0 <= first < end <= self.geometry.shape[0]
        if not on_grid or not pet.geometry.same_grid_as(self.geometry.slab(slice(first, end))):
            raise UnsupportedSeriesError(
                f"the PET of {pet.geometry.shape} voxels is not on slices of CT {self.ct_uid} "
                f"({self.geometry.shape}), expected the CT's grid"
            )
        return SyntheticSeries(self, pet, first)


@dataclass(frozen=True, eq=False)
class SyntheticSeries:
    """A synthetic PET series whose instances are created one at a time.

    Attributes:
        planned: Its UIDs and headers.
        pet: The pixels, SUVbw.
        first: Index of the CT slice of the PET's first slice.
    """

    planned: PlannedSeries
    pet: Volume
    first: int

    @property
    def uid(self) -> str:
        """The SeriesInstanceUID."""
        return self.planned.uid

    @property
    def study_uid(self) -> str:
        """The StudyInstanceUID, which is the CT's."""
        return self.planned.study_uid

    def __len__(self) -> int:
        return int(self.pet.geometry.shape[0])

    def datasets(self) -> Iterator[FileDataset]:
        """Yield the instances in stack order as pydicom datasets, for storing by DICOMweb.

        Raises:
            DicomError: A slice has NaN or infinite values.
        """
        for k in range(self.first, self.first + len(self)):
            yield instance_dataset(self.planned, k, self.pet.array[k - self.first])

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield each instance's file name (its CT slice's number in the stack, from 1) and file, in stack order."""
        encoder = InstanceEncoder(self.planned, self.first, self.pet.array[0])
        for k, suv_bw in enumerate(self.pet.array, start=self.first):
            yield f"{k + 1:04d}.dcm", encoder.file(k, suv_bw)


def plan_series(ct: Series, source_model: SourceModel) -> PlannedSeries:
    """Return the planned synthetic series of a CT, reading the headers of all its files.

    Raises:
        MissingAttributeError: The CT lacks a frame of reference, or a date and time.
        DicomError: A file is damaged, or the files do not form one stack; the message names the series.
    """
    selected = set(ct.slices)
    read = (frame for path in ct.files for frame in _read(path, ct))
    found = [frame for frame in read if SliceSource(frame.header.file, frame.header.frame) in selected]
    datasets = {(frame.header.path, frame.header.frame): frame.dataset for frame in found}
    stack = order_stack([frame.header for frame in found])
    frames = tuple(header.frame for header in stack.headers)
    slices = tuple(datasets[header.path, header.frame] for header in stack.headers)
    shared = copy_patient_and_study(slices[0], series_uid=ct.uid)
    instances = (source_of(slice_, frame) for slice_, frame in zip(slices, frames, strict=True))
    return PlannedSeries(
        uid=derived_uid("series", ct.uid, source_model.checksum, *instances),
        study_uid=str(shared.StudyInstanceUID),
        ct_uid=ct.uid,
        geometry=stack.geometry,
        slices=slices,
        frames=frames,
        shared=shared,
        source_model=source_model,
    )


def _read(path: Path, ct: Series) -> tuple[Frame, ...]:
    """Return the slices of a file: the file itself, or the frames of a multi-frame file."""
    try:
        dataset = read_instance_file(path, tags=[*HEADER_TAGS, *COPIED_TAGS])
        header = header_of(dataset, str(path))
        frames = read_frame_headers(path) if is_multi_frame(header.shared) else (Frame(header, dataset),)
    except (DicomError, OSError) as error:
        raise DicomError(f"series {ct.uid}: {path.name}: cannot be read ({error}); scan the folder again") from error
    except Exception as error:  # a damaged file can make a parser raise anything
        raise DicomError(f"series {ct.uid}: {path.name}: damaged DICOM file; copy it again") from error
    if header.shared.series_instance_uid != ct.uid or header.shared.modality != "CT":
        raise DicomError(f"{path.name}: no longer a file of CT series {ct.uid}; scan the folder again")
    if not UID.fullmatch(header.sop_instance_uid):
        raise DicomError(
            f"series {ct.uid}: {path.name}: its SOPInstanceUID is not a UID, so a PET series cannot refer to it; "
            "correct the CT's header, or have the PET written as .nrrd"
        )
    for frame in frames:  # as checked above: the elements in the file may have any value representation
        frame.dataset.add_new("SOPInstanceUID", "UI", header.sop_instance_uid)
        frame.dataset.add_new("SOPClassUID", "UI", header.shared.sop_class_uid or CTImageStorage)
    return frames
