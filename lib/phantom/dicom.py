"""Writing of a phantom as a DICOM study: CT Image Storage and Positron Emission Tomography Image Storage.

There is one file per slice. The PET is in Bq/mL, decay-corrected to the start of the series (`DecayCorrection` START),
with several bed positions and a slope per slice, so that errors of a reader in any of these change the SUV.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

from lib.errors import InputError
from lib.files import atomic_file
from lib.imaging.volume import Unit, Volume
from lib.phantom.patient import PhantomPatient
from lib.types import FloatArray

HALF_LIFE_S = 6586.2  # F-18, 109.77 min: decay data of the Laboratoire National Henri Becquerel
POSITRON_FRACTION = 0.9673  # F-18, the same tables
BED_SLICES, BED_S = 20, 180  # slices and duration of a bed position
SERIES_START = datetime(2024, 1, 15, 10, 30)  # of the first patient's PET; each further patient is a day later
CT_BEFORE_PET_S = 120
UID_NAMESPACE = uuid.UUID("6f1f5f0e-5a52-5d7b-9a2b-6a1f0b2d9c11")  # ct2pet's namespace of phantoms
STORED_MAXIMUM = 32767  # 16 bits signed, as PET scanners store
SOP_CLASSES = {
    Unit.HU: ("CT", CTImageStorage),
    Unit.SUV_BW: ("PT", PositronEmissionTomographyImageStorage),
}
COMMENT = "COMPUTED PHANTOM, NOT A PATIENT. NOT FOR DIAGNOSIS."


def write_study(patient: PhantomPatient, folder: Path) -> Path:
    """Write CT/ and PET/ into a folder, each file atomically; return the folder.

    Raises:
        InputError: CT/ or PET/ contains other DICOM files or cannot be created.
    """
    names = [f"{k:04d}.dcm" for k in range(1, patient.ct.geometry.shape[0] + 1)]
    for series in (folder / "CT", folder / "PET"):
        foreign = sorted({path.name for path in series.glob("*.dcm")} - set(names)) if series.is_dir() else []
        if foreign:
            found = f"{len(foreign)} other DICOM files ({foreign[0]}, ...)"
            raise InputError(f"{series}: contains {found}, expected an empty folder; name another folder")
        try:
            series.mkdir(parents=True, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{series}: cannot be created ({error.strerror}); name a writable folder") from error
    for name, ct_slice, pet_slice in zip(names, _ct_slices(patient), _pet_slices(patient), strict=True):
        _write_instance(ct_slice, folder / "CT" / name)
        _write_instance(pet_slice, folder / "PET" / name)
    return folder


def _write_instance(instance: FileDataset, path: Path) -> None:
    encoded = BytesIO()
    instance.save_as(encoded, write_like_original=False)
    with atomic_file(path) as partial_path:
        partial_path.write_bytes(encoded.getvalue())


def _ct_slices(patient: PhantomPatient) -> Iterator[FileDataset]:
    """Yield CT slices from the head down, as a scanner numbers them."""
    start = series_start(patient) - timedelta(seconds=CT_BEFORE_PET_S)
    for instance_number, k in enumerate(reversed(range(patient.ct.geometry.shape[0])), start=1):
        ct = _common(patient, patient.ct, k=k, number=instance_number, begun=start, acquired=start)
        ct.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ct.SeriesDescription, ct.SeriesNumber, ct.AcquisitionNumber = "PHANTOM CT", 2, 1
        ct.PatientPosition = "HFS"
        ct.KVP, ct.XRayTubeCurrent, ct.ExposureTime = 120, 100, 500
        ct.ScanOptions, ct.ConvolutionKernel, ct.GantryDetectorTilt = "HELICAL MODE", "PHANTOM", 0
        ct.PixelRepresentation, ct.RescaleIntercept, ct.RescaleSlope, ct.RescaleType = 0, -1024, 1, "HU"
        ct.WindowCenter, ct.WindowWidth = 40, 400
        ct.PixelData = (patient.ct.array[k] + 1024).astype("<u2").tobytes()
        yield ct


def _pet_slices(patient: PhantomPatient) -> Iterator[FileDataset]:
    """Yield PET slices from the head down, each with its own slope."""
    start = series_start(patient)
    dose_at_start_bq = patient.dose_bq * 0.5 ** (patient.uptake_s / HALF_LIFE_S)
    count = patient.pet.geometry.shape[0]
    for instance_number, k in enumerate(reversed(range(count)), start=1):
        bed_start_s = (instance_number - 1) // BED_SLICES * BED_S
        # time at which a decaying source has the mean activity of the frame, as PS3.3 C.8.9.4.1.5 requires
        frame_time_s = bed_start_s + _mean_activity_time_s(BED_S)
        acquired = start + timedelta(seconds=bed_start_s)
        pet = _common(patient, patient.pet, k=k, number=instance_number, begun=start, acquired=acquired)
        pet.ImageType = ["ORIGINAL", "PRIMARY"]
        pet.SeriesDescription, pet.SeriesNumber = "PHANTOM PET AC", 3
        pet.Units, pet.CountsSource, pet.SeriesType = "BQML", "EMISSION", ["WHOLE BODY", "IMAGE"]
        pet.NumberOfSlices, pet.ImageIndex = count, instance_number
        pet.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"]
        pet.DecayCorrection, pet.FrameReferenceTime = "START", f"{frame_time_s * 1000:.3f}"
        pet.DecayFactor, pet.ActualFrameDuration = f"{2 ** (frame_time_s / HALF_LIFE_S):.8f}", BED_S * 1000
        pet.RandomsCorrectionMethod, pet.ScatterCorrectionMethod = "DLYD", "computed phantom"
        pet.AttenuationCorrectionMethod, pet.ReconstructionMethod = "computed phantom", "computed phantom"
        pet.CollimatorType = "NONE"
        recumbent = code_sequence("102538003", "SCT", "recumbent")
        recumbent[0].PatientOrientationModifierCodeSequence = code_sequence("40199007", "SCT", "supine")
        pet.PatientOrientationCodeSequence = recumbent
        pet.PatientGantryRelationshipCodeSequence = code_sequence("102540008", "SCT", "headfirst")
        pet.RadiopharmaceuticalInformationSequence = DicomSequence([_radiopharmaceutical(patient)])
        activity_bqml = patient.pet.array[k] * (dose_at_start_bq / (patient.anatomy.weight_kg * 1000))
        _store_activity(pet, activity_bqml)
        yield pet


def _store_activity(pet: FileDataset, activity_bqml: FloatArray) -> None:
    slope = f"{float(activity_bqml.max()) / STORED_MAXIMUM or 1.0:.8g}"
    stored = np.clip(np.rint(activity_bqml / float(slope)), 0, STORED_MAXIMUM).astype("<i2")
    pet.PixelRepresentation, pet.RescaleIntercept, pet.RescaleSlope = 1, 0, slope
    pet.PixelData = stored.tobytes()


def _radiopharmaceutical(patient: PhantomPatient) -> Dataset:
    injection = series_start(patient) - timedelta(seconds=patient.uptake_s)
    item = Dataset()
    item.Radiopharmaceutical = "Fluorodeoxyglucose F^18^"
    item.RadiopharmaceuticalStartTime = f"{injection:%H%M%S}"
    item.RadiopharmaceuticalStartDateTime = f"{injection:%Y%m%d%H%M%S}"
    item.RadionuclideTotalDose = f"{patient.dose_bq:.0f}"
    item.RadionuclideHalfLife, item.RadionuclidePositronFraction = HALF_LIFE_S, POSITRON_FRACTION
    item.RadionuclideCodeSequence = code_sequence("77004003", "SCT", "^18^Fluorine")
    item.RadiopharmaceuticalCodeSequence = code_sequence("35321007", "SCT", "Fluorodeoxyglucose F^18^")
    item.AdministrationRouteCodeSequence = code_sequence("47625008", "SCT", "Intravenous route")
    return item


def _common(
    patient: PhantomPatient, volume: Volume, *, k: int, number: int, begun: datetime, acquired: datetime
) -> FileDataset:
    """Return an instance with the modules common to CT and PET: patient, study, series, plane and pixel format."""
    modality, sop_class_uid = SOP_CLASSES[volume.unit]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = phantom_uid(patient, f"{modality} {number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    instance.is_little_endian, instance.is_implicit_VR = True, False
    instance.SpecificCharacterSet = "ISO_IR 100"
    instance.SOPClassUID, instance.SOPInstanceUID = sop_class_uid, meta.MediaStorageSOPInstanceUID
    instance.Modality = modality

    add_patient_and_study(instance, patient)
    times = {"Series": begun, "Acquisition": acquired, "Content": acquired}
    for what, when in times.items():
        setattr(instance, f"{what}Date", f"{when:%Y%m%d}")
        setattr(instance, f"{what}Time", f"{when:%H%M%S}")
    instance.SeriesInstanceUID = phantom_uid(patient, modality)
    instance.InstanceNumber, instance.ImageComments, instance.BurnedInAnnotation = number, COMMENT, "NO"

    slice_mm, row_mm, column_mm = volume.geometry.spacing_mm
    position = volume.geometry.affine[:3, 3] + k * volume.geometry.affine[:3, 2]
    instance.ImagePositionPatient = [f"{p:.4f}" for p in position]
    instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    instance.SliceLocation, instance.SliceThickness = f"{position[2]:.4f}", f"{slice_mm:.4f}"
    instance.PixelSpacing = [f"{row_mm:.6g}", f"{column_mm:.6g}"]
    instance.Rows, instance.Columns = volume.geometry.shape[1:]
    instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
    instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 16, 15
    return instance


def add_patient_and_study(instance: Dataset, patient: PhantomPatient) -> None:
    """Set the attributes of patient, study, frame of reference and equipment, which all series have in common."""
    instance.PatientName, instance.PatientID = f"PHANTOM^{patient.number:04d}", patient.patient_id
    instance.PatientBirthDate, instance.PatientSex = "", patient.anatomy.sex
    instance.PatientWeight, instance.PatientSize = f"{patient.anatomy.weight_kg}", f"{patient.anatomy.height_m}"
    instance.QualityControlSubject = "YES"
    instance.PatientIdentityRemoved, instance.DeidentificationMethod = "YES", "Computed phantom, never a person"
    begun = series_start(patient) - timedelta(seconds=2 * CT_BEFORE_PET_S)
    instance.StudyDate, instance.StudyTime = f"{begun:%Y%m%d}", f"{begun:%H%M%S}"
    instance.StudyInstanceUID = phantom_uid(patient, "study")
    instance.FrameOfReferenceUID, instance.PositionReferenceIndicator = phantom_uid(patient, "frame of reference"), ""
    instance.StudyID, instance.AccessionNumber, instance.ReferringPhysicianName = f"{patient.number}", "", ""
    instance.StudyDescription, instance.BodyPartExamined = "PHANTOM PET/CT CHEST", "CHEST"
    instance.Manufacturer, instance.ManufacturerModelName = "ct2pet", "computed chest phantom"
    instance.InstitutionName, instance.DeviceSerialNumber, instance.SoftwareVersions = "", "1", "phantom 1"


def series_start(patient: PhantomPatient) -> datetime:
    """Return the start of a patient's PET series."""
    return SERIES_START + timedelta(days=patient.number - 1)


def _mean_activity_time_s(duration_s: float) -> float:
    """Return the time within a frame at which a decaying source has the frame's mean activity."""
    decays = np.log(2) / HALF_LIFE_S * duration_s
    return float(np.log(decays / -np.expm1(-decays)) / decays * duration_s)


def ct_instance_uid(patient: PhantomPatient, k: int) -> str:
    """Return the SOPInstanceUID of CT slice `k`, counted from the feet."""
    return phantom_uid(patient, f"CT {patient.ct.geometry.shape[0] - k}")


def phantom_uid(patient: PhantomPatient, what: str) -> str:
    """Return a UID of the 2.25 arc (PS3.5 B.2) determined by the patient and `what`."""
    return f"2.25.{uuid.uuid5(UID_NAMESPACE, f'{patient.key} {what}').int}"


def code_sequence(value: str, scheme: str, meaning: str) -> DicomSequence:
    """Return a code sequence with one item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return DicomSequence([item])
