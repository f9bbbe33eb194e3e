"""Conversion of single-frame series to Legacy Converted Enhanced and true Enhanced CT and PET.

True Enhanced objects have all attributes that a validator (dciodvfy) requires of an ORIGINAL image; scanner details
that a single-frame series lacks are invented and equal in every frame.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from tests.dicom.enhanced_macros import anatomy, ct_macros, describe_ct, describe_pet, pet_macros

Kind = Literal["legacy", "enhanced"]
SOP_CLASSES = {
    ("CT", "legacy"): "1.2.840.10008.5.1.4.1.1.2.2",
    ("CT", "enhanced"): "1.2.840.10008.5.1.4.1.1.2.1",
    ("PT", "legacy"): "1.2.840.10008.5.1.4.1.1.128.1",
    ("PT", "enhanced"): "1.2.840.10008.5.1.4.1.1.130",
}
TOP_LEVEL = (
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientWeight",
    "PatientSize", "PatientIdentityRemoved", "DeidentificationMethod", "QualityControlSubject", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesDate", "SeriesTime", "SeriesNumber", "SeriesDescription", "Modality",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "Manufacturer", "ManufacturerModelName",
    "DeviceSerialNumber", "SoftwareVersions", "InstitutionName", "PatientPosition", "BurnedInAnnotation",
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "ContentDate", "ContentTime",
)  # fmt: skip
MACRO_KEYWORDS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
}
DROPPED = ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "PixelData", "ImageType", "BodyPartExamined")
Edit = Callable[[FileDataset], None]


def read_slices(folder: Path) -> list[FileDataset]:
    """Return the instances of a single-frame series, sorted by file name."""
    return [dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def write_multi_frame(
    slices: Sequence[FileDataset],
    folder: Path,
    *,
    kind: Kind,
    files: int = 1,
    seed: int | None = None,
    per_frame: bool = False,
    rescale_unassigned: bool = False,
    rle: bool = False,
    edit: Edit = lambda dataset: None,
) -> list[Path]:
    """Write slices as multi-frame files of one series.

    Args:
        slices: The result of `read_slices`.
        folder: Target folder, created if missing.
        kind: Legacy Converted or true Enhanced.
        files: Number of instances among which the frames are distributed in turn.
        seed: Seed to shuffle the frames; None keeps their order.
        per_frame: Whether all macros are in the per-frame groups, including those equal in all frames.
        rescale_unassigned: Whether slope and intercept are unassigned attributes (legacy only).
        rle: Whether to compress the frames.
        edit: Called with each dataset before it is written.
    """
    order = list(slices)
    if seed is not None:
        random.Random(seed).shuffle(order)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(files):
        dataset = _multi_frame(
            order[number::files], kind, number + 1, per_frame=per_frame, rescale_unassigned=rescale_unassigned
        )
        if rle:
            dataset.compress(RLELossless, generate_instance_uid=False)
        edit(dataset)
        paths.append(folder / f"{number + 1:02d}.dcm")
        dataset.save_as(paths[-1], write_like_original=False)
    return paths


def item(**values: Any) -> Dataset:
    """Return a dataset with values by keyword."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _multi_frame(
    slices: Sequence[FileDataset], kind: Kind, number: int, *, per_frame: bool, rescale_unassigned: bool
) -> FileDataset:
    first = slices[0]
    dataset = _top_level(first, kind, number)
    dataset.NumberOfFrames = len(slices)
    dataset.PixelData = b"".join(one.PixelData for one in slices)
    groups = []
    positions = sorted({_position_mm(one) for one in slices})
    for one in slices:
        group = _converted(one, positions.index(_position_mm(one)) + 1, rescale_unassigned=rescale_unassigned)
        if kind == "enhanced":
            del group.UnassignedPerFrameConvertedAttributesSequence
            (_enhance_ct if first.Modality == "CT" else _enhance_pet)(group, one)
        groups.append(group)
    if kind == "enhanced":
        (describe_ct if first.Modality == "CT" else describe_pet)(dataset, first)
    shared = Dataset() if per_frame else _split_off_shared(groups)
    if kind == "legacy":
        _share_unassigned(shared, groups)
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    return dataset


def _top_level(first: FileDataset, kind: Kind, number: int) -> FileDataset:
    dataset = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    for keyword in TOP_LEVEL:
        if keyword in first:
            dataset[keyword] = first[keyword]
    dataset.SOPClassUID = SOP_CLASSES[first.Modality, kind]
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[first.SeriesInstanceUID, kind, str(number)])
    meta = dataset.file_meta
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.InstanceNumber, dataset.PresentationLUTShape = number, "IDENTITY"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if first.Modality == "CT" else "VOLUME", "NONE"]
    dataset.PixelPresentation, dataset.VolumetricProperties = "MONOCHROME", "VOLUME"
    dataset.VolumeBasedCalculationTechnique, dataset.LossyImageCompression = "NONE", "00"
    dataset.ContentQualification, dataset.ImageComments = "RESEARCH", "CONVERTED FOR A TEST"
    dataset.BurnedInAnnotation, dataset.AcquisitionContextSequence = "NO", DicomSequence()
    dimension = generate_uid(entropy_srcs=["dimension of the tests"])
    dataset.DimensionOrganizationSequence = DicomSequence([item(DimensionOrganizationUID=dimension)])
    dataset.DimensionIndexSequence = DicomSequence(
        [
            item(DimensionOrganizationUID=dimension, DimensionIndexPointer=pointer, FunctionalGroupPointer=0x00209111)
            for pointer in (0x00209056, 0x00209057)  # StackID, InStackPositionNumber
        ]
    )
    return dataset


def _position_mm(one: Dataset) -> float:
    return float(one.ImagePositionPatient[2])


def _converted(one: FileDataset, position: int, *, rescale_unassigned: bool) -> Dataset:
    """Return a slice's functional groups; attributes without a macro are unassigned attributes."""
    group, unassigned = Dataset(), Dataset()
    moved = {keyword: macro for macro, keywords in MACRO_KEYWORDS.items() for keyword in keywords}
    for element in one:
        keyword = element.keyword
        macro = moved.get(keyword)
        if keyword in TOP_LEVEL or keyword in DROPPED:
            continue
        if macro is None or (rescale_unassigned and macro == "PixelValueTransformationSequence"):
            unassigned[element.tag] = element
            continue
        if macro not in group:
            setattr(group, macro, DicomSequence([Dataset()]))
        group[macro].value[0][element.tag] = element
    if "PixelValueTransformationSequence" in group:
        group.PixelValueTransformationSequence[0].RescaleType = "HU" if one.Modality == "CT" else "US"
    group.FrameContentSequence = DicomSequence(
        [item(StackID="1", InStackPositionNumber=position, TemporalPositionIndex=1, DimensionIndexValues=[1, position])]
    )
    frame_type = item(
        FrameType=["ORIGINAL", "PRIMARY", "AXIAL" if one.Modality == "CT" else "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME", VolumetricProperties="VOLUME", VolumeBasedCalculationTechnique="NONE",
    )  # fmt: skip
    name = "CTImageFrameTypeSequence" if one.Modality == "CT" else "PETFrameTypeSequence"
    setattr(group, name, DicomSequence([frame_type]))
    group.UnassignedPerFrameConvertedAttributesSequence = DicomSequence([unassigned])
    group.FrameAnatomySequence = anatomy()
    source = item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID)
    group.ConversionSourceAttributesSequence = DicomSequence([source])
    return group


def _split_off_shared(groups: list[Dataset]) -> Dataset:
    """Move the macros that are equal in all frames to the shared group."""
    shared = Dataset()
    never = ("FrameContentSequence", "UnassignedPerFrameConvertedAttributesSequence")
    for element in list(groups[0]):
        if element.keyword not in never and all(group.get(element.tag) == element for group in groups):
            shared[element.tag] = element
            for group in groups:
                del group[element.tag]
    return shared


def _share_unassigned(shared: Dataset, groups: list[Dataset]) -> None:
    """Move the unassigned attributes that are equal in all frames to the shared ones."""
    all_unassigned = [group.UnassignedPerFrameConvertedAttributesSequence[0] for group in groups]
    common = Dataset()
    for element in list(all_unassigned[0]):
        if all(unassigned.get(element.tag) == element for unassigned in all_unassigned):
            common[element.tag] = element
            for unassigned in all_unassigned:
                del unassigned[element.tag]
    shared.UnassignedSharedConvertedAttributesSequence = DicomSequence([common])


def _enhance_ct(group: Dataset, one: FileDataset) -> None:
    del group.ConversionSourceAttributesSequence
    acquired = _datetime(one, "Acquisition")
    _set_frame_times(group, acquired, acquired + timedelta(milliseconds=250), duration_ms=500.0, number=1)
    group.update(ct_macros(one))


def _enhance_pet(group: Dataset, one: FileDataset) -> None:
    del group.ConversionSourceAttributesSequence
    start = _datetime(one, "Series")
    reference = start + timedelta(milliseconds=float(one.FrameReferenceTime))
    acquired, duration_ms = _datetime(one, "Acquisition"), float(one.ActualFrameDuration)
    _set_frame_times(group, acquired, reference, duration_ms=duration_ms, number=1)
    rescale = group.PixelValueTransformationSequence[0]
    group.update(pet_macros(one, slope=float(rescale.RescaleSlope)))
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, 0  # "US": the real world values alone say Bq/mL


def _set_frame_times(
    group: Dataset, acquired: datetime, reference: datetime, *, duration_ms: float, number: int
) -> None:
    content = group.FrameContentSequence[0]
    content.FrameAcquisitionDateTime = f"{acquired:%Y%m%d%H%M%S.%f}"
    content.FrameReferenceDateTime = f"{reference:%Y%m%d%H%M%S.%f}"
    content.FrameAcquisitionDuration, content.FrameAcquisitionNumber = duration_ms, number


def _datetime(one: Dataset, what: str) -> datetime:
    date, time = getattr(one, f"{what}Date"), getattr(one, f"{what}Time")
    return datetime.strptime(f"{date}{str(time).split('.')[0]}", "%Y%m%d%H%M%S")
