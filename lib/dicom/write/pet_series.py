"""The synthetic PET of a CT as a DICOM series (Positron Emission Tomography Image Storage) in the CT's study.

It is recognisable for users and for `scan` by SyntheticData YES, ImageType DERIVED, a SeriesDescription that begins
with SYNTHETIC, a derivation code, the model as contributing equipment, and the source CT slices (`synthetic_marks`).
Attributes of a measurement are empty: tracer, dose, corrections, acquisition time.

UIDs and headers are determined by the CT and the model's checksum: a slice synthesised and stored again is the same
instance, and slices of a slab equal those of the entire series.

pydicom takes 4 ms to build and encode an instance. In files, the elements that all slices share are therefore encoded
once (`encoding.py`); a file has the same bytes as its dataset saved by pydicom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

from lib.dicom.read.header import number_in, text_in
from lib.dicom.write.copied_attributes import copy_slice_plane, slice_plane
from lib.dicom.write.derivation import SourceModel, code, fill_pet_module, label_as_synthetic
from lib.dicom.write.encoding import InstanceTemplate, encoded_dataset, encoded_element, encoded_sequence
from lib.dicom.write.rescale import store_slice
from lib.dicom.write.uids import derived_uid, source_of
from lib.errors import UnsupportedSeriesError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.types import FloatArray

SERIES_NUMBERS_FROM = 9000  # added to the CT's SeriesNumber, above a scanner's own numbers
MAX_IS = 2**31 - 1  # maximum of an integer string (PS3.5 6.2)
WINDOW_CENTRE_SUV, WINDOW_WIDTH_SUV = "2.5", "5"  # 0 to 5 SUV, usual for whole-body FDG
SERIES_NUMBER, PATIENT_POSITION = 0x00200011, 0x00185100
TAGS = {
    keyword: int(tag_for_keyword(keyword) or 0)
    for keyword in (  # of the elements that differ between slices, and of the items of SourceImageSequence
        "MediaStorageSOPInstanceUID", "SOPInstanceUID", "SourceImageSequence", "ImagePositionPatient",
        "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "InstanceNumber", "ImageIndex", "RescaleSlope",
        "RescaleIntercept", "PixelData", "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "ReferencedFrameNumber",
        "SpatialLocationsPreserved",
    )
}  # fmt: skip


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

    @property
    def instance_uids(self) -> tuple[str, ...]:
        """The SOPInstanceUID of each slice, in stack order."""
        return tuple(_instance_uid(self, k) for k in range(len(self.slices)))

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

    def files(self, slabs: Iterable[Volume]) -> Iterator[tuple[str, bytes]]:
        """Yield the file name (the CT slice's number in the stack, from 1) and the file of each slice of slabs.

        Raises:
            UnsupportedSeriesError: A slab has another unit or another grid.
            DicomError: A slice has NaN or infinite values.
        """
        encoder = None
        for slab in slabs:
            first = self.fill(slab).first
            encoder = encoder or _Encoder(self, first, slab.array[0])
            for k, suv_bw in enumerate(slab.array, start=first):
                yield f"{k + 1:04d}.dcm", encoder.file(k, suv_bw)


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
            yield _instance(self.planned, k, self.pet.array[k - self.first])

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield each instance's file name and file, in stack order; see `PlannedSeries.files`."""
        return self.planned.files([self.pet])


def _instance(planned: PlannedSeries, k: int, suv_bw: FloatArray) -> FileDataset:
    """Return the instance of CT slice `k`, independent of which other slices were synthesised.

    Args:
        planned: The series.
        k: Index of the CT slice, from 0.
        suv_bw: The pixels, (R, C).

    Raises:
        DicomError: The slice has NaN or infinite values.
    """
    ct = planned.slices[k]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    meta.MediaStorageSOPInstanceUID = _instance_uid(planned, k)
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
    _put_pixels(pet, suv_bw)
    return pet


class _Encoder:
    """Encodes the instances of a series as files; slices may come in any order.

    Args:
        planned: The series.
        k: Index of a CT slice, from 0.
        suv_bw: The pixels of that slice, (R, C); all slices have as many.
    """

    def __init__(self, planned: PlannedSeries, k: int, suv_bw: FloatArray) -> None:
        self._planned = planned
        instance = _instance(planned, k, np.zeros_like(suv_bw))
        del instance.PixelData
        self._template = InstanceTemplate.of(instance)
        self._purpose = encoded_dataset(_purpose())

    def file(self, k: int, suv_bw: FloatArray) -> bytes:
        """Return the file of CT slice `k`.

        Raises:
            DicomError: The slice has NaN or infinite values.
        """
        stored = store_slice(suv_bw)
        uid = _instance_uid(self._planned, k)
        values: dict[str, tuple[str, bytes | str | list[str]]] = {
            "SOPInstanceUID": ("UI", uid),
            **{keyword: ("DS", numbers) for keyword, numbers in slice_plane(self._planned.slices[k]).items()},
            "InstanceNumber": ("IS", str(k + 1)),
            "ImageIndex": ("US", struct.pack("<H", k + 1)),
            "RescaleSlope": ("DS", stored.rescale_slope),
            "RescaleIntercept": ("DS", stored.rescale_intercept),
            "PixelData": ("OW", stored.stored.astype("<u2", copy=False).tobytes()),
        }
        elements = {TAGS[keyword]: encoded_element(TAGS[keyword], *value) for keyword, value in values.items()}
        elements[TAGS["SourceImageSequence"]] = encoded_sequence(
            TAGS["SourceImageSequence"], [self._source(j, is_same=j == k) for j in _sources(self._planned, k)]
        )
        meta = {TAGS["MediaStorageSOPInstanceUID"]: encoded_element(TAGS["MediaStorageSOPInstanceUID"], "UI", uid)}
        return self._template.file(meta, elements)

    def _source(self, j: int, *, is_same: bool) -> bytes:
        """Return the elements of the item that refers to CT slice `j`, as `_name_sources` sets them."""
        ct, frame = self._planned.slices[j], self._planned.frames[j]
        elements = [
            encoded_element(TAGS["ReferencedSOPClassUID"], "UI", str(ct.SOPClassUID)),
            encoded_element(TAGS["ReferencedSOPInstanceUID"], "UI", str(ct.SOPInstanceUID)),
        ]
        if frame:
            elements.append(encoded_element(TAGS["ReferencedFrameNumber"], "IS", str(frame)))
        if is_same:
            elements.append(encoded_element(TAGS["SpatialLocationsPreserved"], "CS", "YES"))
        return b"".join((*elements, self._purpose))


def _instance_uid(planned: PlannedSeries, k: int) -> str:
    return derived_uid("instance", planned.uid, source_of(planned.slices[k], planned.frames[k]))


def _series_number(ct: Dataset) -> int:
    number = int(number_in(ct, SERIES_NUMBER) or 0)
    return SERIES_NUMBERS_FROM + (number if 0 < number <= MAX_IS - SERIES_NUMBERS_FROM else 0)


def _sources(planned: PlannedSeries, k: int) -> tuple[int, ...]:
    """Return the indices of the CT slices that the PET of slice `k` is computed from, beginning with `k`."""
    first, last = max(0, k - planned.reach), min(len(planned.slices) - 1, k + planned.reach)
    return (k, *(j for j in range(first, last + 1) if j != k))


def _purpose() -> Dataset:
    source = Dataset()
    source.PurposeOfReferenceCodeSequence = code("121322", "DCM", "Source image for image processing operation")
    return source


def _name_sources(pet: FileDataset, planned: PlannedSeries, k: int) -> None:
    """Set SourceImageSequence: first the CT slice at the same position, then its neighbours."""
    sources = Sequence()
    for j in _sources(planned, k):
        source = _purpose()
        source.ReferencedSOPClassUID = planned.slices[j].SOPClassUID
        source.ReferencedSOPInstanceUID = planned.slices[j].SOPInstanceUID
        if planned.frames[j]:
            source.ReferencedFrameNumber = planned.frames[j]
        if j == k:
            source.SpatialLocationsPreserved = "YES"
        sources.append(source)
    pet.SourceImageSequence = sources


def _put_pixels(pet: FileDataset, suv_bw: FloatArray) -> None:
    slice_ = store_slice(suv_bw)
    pet.Rows, pet.Columns = slice_.stored.shape
    pet.SamplesPerPixel, pet.PhotometricInterpretation = 1, "MONOCHROME2"
    pet.BitsAllocated, pet.BitsStored, pet.HighBit, pet.PixelRepresentation = 16, 16, 15, 0
    pet.RescaleSlope, pet.RescaleIntercept = slice_.rescale_slope, slice_.rescale_intercept
    pet.WindowCenter, pet.WindowWidth = WINDOW_CENTRE_SUV, WINDOW_WIDTH_SUV
    pet.PixelData = slice_.stored.astype("<u2", copy=False).tobytes()
