"""The synthetic PET of a CT as a DICOM series (Positron Emission Tomography Image Storage) in the CT's study.

It is recognisable for users and for `scan` by SyntheticData YES, ImageType DERIVED, a SeriesDescription that begins
with SYNTHETIC, a derivation code, the model as contributing equipment, and the source CT slices (`synthetic_marks`).
Attributes of a measurement are empty: tracer, dose, corrections, acquisition time.

UIDs and headers are determined by the CT and the model's checksum: a slice synthesised and stored again is the same
instance, and slices of a slab equal those of the entire series.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

from lib.dicom.attributes.value_rules import UID
from lib.dicom.read.header import HEADER_TAGS, header_of, number_in, text_in
from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.read.multiframe import Frame, is_multi_frame, read_frame_headers
from lib.dicom.read.slice_order import order_stack
from lib.dicom.write.copied_attributes import COPIED_TAGS, copy_patient_and_study, copy_slice_plane
from lib.dicom.write.derivation import SourceModel, code, fill_pet_module, label_as_synthetic
from lib.dicom.write.rescale import store_slice
from lib.errors import DicomError, UnsupportedSeriesError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.types import Series, SliceSource

__all__ = ["PlannedSeries", "SourceModel", "SyntheticSeries", "derived_uid", "plan_series"]

NAMESPACE = uuid.UUID("0b7c9f0e-3d3a-5f0c-9a55-6f6d2c1e8b47")  # ct2pet's namespace of synthetic PET
FORMAT = 1  # of the UIDs; unchanged by header corrections, so that a series stored again is not duplicated
SERIES_NUMBERS_FROM = 9000  # added to the CT's SeriesNumber, above a scanner's own numbers
MAX_IS = 2**31 - 1  # maximum of an integer string (PS3.5 6.2)
WINDOW_CENTRE_SUV, WINDOW_WIDTH_SUV = "2.5", "5"  # 0 to 5 SUV, usual for whole-body FDG
SERIES_NUMBER, PATIENT_POSITION = 0x00200011, 0x00185100


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
            yield _instance(self, k)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield each instance's file name (its CT slice's number in the stack, from 1) and file, in stack order."""
        for k, dataset in enumerate(self.datasets(), start=self.first + 1):
            encoded = BytesIO()
            dataset.save_as(encoded, write_like_original=False)
            yield f"{k:04d}.dcm", encoded.getvalue()


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
    instances = (_source(slice_, frame) for slice_, frame in zip(slices, frames, strict=True))
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


def derived_uid(*parts: str) -> str:
    """Return a UID of the 2.25 arc (PS3.5 B.2) determined by `parts`."""
    return f"2.25.{uuid.uuid5(NAMESPACE, ' '.join((str(FORMAT), *parts))).int}"


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


def _source(ct: Dataset, frame: int) -> str:
    """Return the identity of a CT slice: its SOPInstanceUID, and its frame number if the file has several."""
    return f"{ct.SOPInstanceUID} frame {frame}" if frame else str(ct.SOPInstanceUID)


def _instance(series: SyntheticSeries, k: int) -> FileDataset:
    """Return the instance of CT slice `k`, independent of which other slices were synthesised."""
    planned, ct = series.planned, series.planned.slices[k]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = derived_uid("instance", planned.uid, _source(ct, planned.frames[k]))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pet = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    pet.is_little_endian, pet.is_implicit_VR = True, False
    pet.update(planned.shared)
    pet.update(copy_slice_plane(ct))
    pet.SOPClassUID, pet.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    pet.SeriesInstanceUID, pet.Modality = planned.uid, "PT"
    pet.SeriesNumber = _series_number(planned.slices[0])
    pet.InstanceNumber = k + 1
    label_as_synthetic(pet, planned.source_model, warning=planned.warning)
    _name_sources(pet, planned, k)
    fill_pet_module(pet, position=text_in(planned.slices[0], PATIENT_POSITION))
    pet.NumberOfSlices, pet.ImageIndex = planned.geometry.shape[0], k + 1  # of the entire series, in a slab too
    pet.SpacingBetweenSlices = f"{planned.geometry.spacing_mm[0]:.8g}"
    _put_pixels(pet, series.pet.array[k - series.first])
    return pet


def _series_number(ct: Dataset) -> int:
    number = int(number_in(ct, SERIES_NUMBER) or 0)
    return SERIES_NUMBERS_FROM + (number if 0 < number <= MAX_IS - SERIES_NUMBERS_FROM else 0)


def _name_sources(pet: FileDataset, planned: PlannedSeries, k: int) -> None:
    """Set SourceImageSequence: first the CT slice at the same position, then its neighbours."""
    reach, last = planned.reach, len(planned.slices) - 1
    neighbours = [j for j in range(max(0, k - reach), min(last, k + reach) + 1) if j != k]
    sources = Sequence()
    for j in (k, *neighbours):
        source = Dataset()
        source.ReferencedSOPClassUID = planned.slices[j].SOPClassUID
        source.ReferencedSOPInstanceUID = planned.slices[j].SOPInstanceUID
        if planned.frames[j]:
            source.ReferencedFrameNumber = planned.frames[j]
        source.PurposeOfReferenceCodeSequence = code("121322", "DCM", "Source image for image processing operation")
        if j == k:
            source.SpatialLocationsPreserved = "YES"
        sources.append(source)
    pet.SourceImageSequence = sources


def _put_pixels(pet: FileDataset, suv_bw: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    slice_ = store_slice(suv_bw)
    pet.Rows, pet.Columns = slice_.stored.shape
    pet.SamplesPerPixel, pet.PhotometricInterpretation = 1, "MONOCHROME2"
    pet.BitsAllocated, pet.BitsStored, pet.HighBit, pet.PixelRepresentation = 16, 16, 15, 0
    pet.RescaleSlope, pet.RescaleIntercept = slice_.rescale_slope, slice_.rescale_intercept
    pet.WindowCenter, pet.WindowWidth = WINDOW_CENTRE_SUV, WINDOW_WIDTH_SUV
    pet.PixelData = slice_.stored.astype("<u2").tobytes()
