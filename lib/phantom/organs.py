"""Organs of a phantom: the true label map of its CT, as NIfTI and as DICOM SEG.

Names are TotalSegmentator's where it has the organ. Nodules, and lesions that the CT does not show, are not separate.
"""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lib.dicom.read.segmentation import SEGMENTATION_STORAGE
from lib.errors import InputError
from lib.files import atomic_file
from lib.imaging.files.label_file import write_label_file
from lib.imaging.label_map import LabelMap, label_map
from lib.phantom.dicom import (
    COMMENT,
    add_patient_and_study,
    code_sequence,
    ct_instance_uid,
    phantom_uid,
    series_start,
)
from lib.phantom.patient import PhantomPatient
from lib.phantom.tissues import Tissue

ORGANS = {
    Tissue.MUSCLE: ("muscle", "91727004", "Skeletal muscle"),
    Tissue.LUNG: ("lung", "39607008", "Lung"),
    Tissue.AIRWAY: ("trachea", "44567001", "Trachea"),
    Tissue.BLOOD: ("blood", "59820001", "Blood vessel"),
    Tissue.MYOCARDIUM: ("heart_myocardium", "74281007", "Myocardium"),
    Tissue.OESOPHAGUS: ("esophagus", "32849002", "Esophagus"),
    Tissue.LIVER: ("liver", "10200004", "Liver"),
    Tissue.SPLEEN: ("spleen", "78961009", "Spleen"),
    Tissue.MARROW: ("vertebrae", "51282000", "Vertebra"),
    Tissue.CORD: ("spinal_cord", "2748008", "Spinal cord"),
}  # name, and SNOMED CT code and meaning of the segmented property type
NIFTI_FILE, SEG_FILE = Path("LABELS", "organs.nii.gz"), Path("SEG", "0001.dcm")
AFTER_CT_S = 600


def phantom_organs(patient: PhantomPatient) -> LabelMap:
    """Return the true organs on the CT's grid."""
    names = {int(tissue): name for tissue, (name, _, _) in ORGANS.items()}
    return label_map(patient.tissues_on(patient.ct.geometry), patient.ct.geometry, names, what=patient.patient_id)


def write_organs(patient: PhantomPatient, folder: Path) -> None:
    """Write LABELS/organs.nii.gz, with names in its header, and SEG/0001.dcm into a patient's folder, atomically.

    Raises:
        InputError: A folder cannot be created.
        OutputError: A file cannot be written.
    """
    organs = phantom_organs(patient)
    write_label_file(organs, folder / NIFTI_FILE)
    path = folder / SEG_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be created ({error.strerror}); name a writable folder") from error
    encoded = BytesIO()
    segmentation(patient, organs).save_as(encoded, write_like_original=False)
    with atomic_file(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


def segmentation(patient: PhantomPatient, organs: LabelMap) -> FileDataset:
    """Return the organs as a DICOM SEG of type BINARY, without empty frames.

    Source: DICOM PS3.3 A.51 and C.8.20; PS3.5 8.1.1 (packed bits, the first voxel in the lowest bit).
    """
    masks = [(number, organs.organs.mask(name)) for number, name in enumerate(organs.organs.names, start=1)]
    frames = [(number, k, mask[k]) for number, mask in masks for k in range(len(mask)) if mask[k].any()]
    instance = _instance(patient)
    instance.Rows, instance.Columns = patient.ct.geometry.shape[1:]
    instance.NumberOfFrames = len(frames)
    instance.SegmentSequence = Sequence(_segments(organs.organs.names))
    _set_dimensions(instance, phantom_uid(patient, "dimensions of SEG"))
    instance.SharedFunctionalGroupsSequence = Sequence([_shared_groups(patient)])
    slices = sorted({k for _, k, _ in frames})
    instance.PerFrameFunctionalGroupsSequence = Sequence(
        _frame_groups(patient, number, k, slices.index(k) + 1) for number, k, _ in frames
    )
    bits = np.concatenate([mask.ravel() for _, _, mask in frames])
    packed = np.packbits(bits, bitorder="little").tobytes()
    instance.PixelData = packed + b"\0" * (len(packed) % 2)
    instance["PixelData"].VR = "OB"
    return instance


def _instance(patient: PhantomPatient) -> FileDataset:
    """Return the instance with the modules of patient, study, series, equipment and image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SEGMENTATION_STORAGE
    meta.MediaStorageSOPInstanceUID = phantom_uid(patient, "SEG 1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    instance.is_little_endian, instance.is_implicit_VR = True, False
    instance.SpecificCharacterSet = "ISO_IR 100"
    instance.SOPClassUID, instance.SOPInstanceUID = SEGMENTATION_STORAGE, meta.MediaStorageSOPInstanceUID
    instance.Modality, instance.SeriesNumber, instance.InstanceNumber = "SEG", 4, 1
    instance.SeriesInstanceUID = phantom_uid(patient, "SEG")
    instance.SeriesDescription = "PHANTOM ORGANS"
    add_patient_and_study(instance, patient)
    written = series_start(patient) + timedelta(seconds=AFTER_CT_S)
    for what in ("Series", "Content"):
        setattr(instance, f"{what}Date", f"{written:%Y%m%d}")
        setattr(instance, f"{what}Time", f"{written:%H%M%S}")
    instance.ContentLabel, instance.ContentDescription, instance.ContentCreatorName = "ORGANS", COMMENT, ""
    instance.ImageType = ["DERIVED", "PRIMARY"]
    instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
    instance.BitsAllocated, instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 1, 1, 0, 0
    instance.LossyImageCompression, instance.SegmentationType = "00", "BINARY"
    instance.BurnedInAnnotation, instance.SegmentsOverlap = "NO", "NO"
    references = Sequence(_reference(patient, k) for k in range(patient.ct.geometry.shape[0]))
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = phantom_uid(patient, "CT"), references
    instance.ReferencedSeriesSequence = Sequence([series])
    return instance


def _reference(patient: PhantomPatient, k: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, ct_instance_uid(patient, k)
    return item


def _segments(names: tuple[str, ...]) -> list[Dataset]:
    codes = {name: (code, meaning) for name, code, meaning in ORGANS.values()}
    segments = []
    for number, name in enumerate(names, start=1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = number, name, "AUTOMATIC"
        segment.SegmentAlgorithmName = "computed phantom"
        segment.SegmentedPropertyCategoryCodeSequence = code_sequence("91723000", "SCT", "Anatomical Structure")
        segment.SegmentedPropertyTypeCodeSequence = code_sequence(codes[name][0], "SCT", codes[name][1])
        segments.append(segment)
    return segments


def _set_dimensions(instance: FileDataset, organisation_uid: str) -> None:
    """Set the dimensions of the frames: first the segment, then the position."""
    organisation = Dataset()
    organisation.DimensionOrganizationUID = organisation_uid
    instance.DimensionOrganizationSequence = Sequence([organisation])
    instance.DimensionIndexSequence = Sequence()
    for pointer, group in ((0x0062000B, 0x0062000A), (0x00200032, 0x00209113)):
        index = Dataset()
        index.DimensionOrganizationUID = organisation_uid
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        instance.DimensionIndexSequence.append(index)


def _shared_groups(patient: PhantomPatient) -> Dataset:
    slice_mm, row_mm, column_mm = patient.ct.geometry.spacing_mm
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{row_mm:.6g}", f"{column_mm:.6g}"]
    measures.SliceThickness = measures.SpacingBetweenSlices = f"{slice_mm:.4f}"
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    return shared


def _frame_groups(patient: PhantomPatient, number: int, k: int, place: int) -> Dataset:
    """Return the functional groups of a frame: segment, position, and the CT slice that it was derived from."""
    content, position, segment, source, derivation, groups = (Dataset() for _ in range(6))
    content.DimensionIndexValues = [number, place]
    affine = patient.ct.geometry.affine
    position.ImagePositionPatient = [f"{p:.4f}" for p in affine[:3, 3] + k * affine[:3, 2]]
    segment.ReferencedSegmentNumber = number
    source.update(_reference(patient, k))
    source.PurposeOfReferenceCodeSequence = code_sequence(
        "121322", "DCM", "Source image for image processing operation"
    )
    derivation.DerivationCodeSequence = code_sequence("113076", "DCM", "Segmentation")
    derivation.SourceImageSequence = Sequence([source])
    groups.FrameContentSequence, groups.PlanePositionSequence = Sequence([content]), Sequence([position])
    groups.SegmentIdentificationSequence = Sequence([segment])
    groups.DerivationImageSequence = Sequence([derivation])
    return groups
