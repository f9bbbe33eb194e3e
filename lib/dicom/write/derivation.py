"""Attributes that identify a PET as synthetic, and PET attributes without a measurement."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.dicom.synthetic_marks import OUR_SCHEME, SYNTHESIZING, SYNTHETIC_DATA

MAX_LO_CHARACTERS = 64  # characters (PS3.5 6.2)
MAX_WARNING_CHARACTERS = 5000  # ImageComments, LT, may have 10240 (PS3.5 6.2)
DESCRIPTION = "SYNTHETIC PET, RESEARCH ONLY, NOT FOR DIAGNOSIS"
COMMENT = (
    "SYNTHETIC PET: estimated from a CT by a model, not measured. RESEARCH ONLY, NOT FOR DIAGNOSIS, staging, treatment "
    "planning or follow-up. Lesions without a trace on CT are missed, and lesions may be shown that do not exist."
)
RECUMBENT = ("102538003", "recumbent")  # SNOMED CT, context groups 19, 20 and 21 of PS3.16
GANTRY = {"HF": ("102540008", "headfirst"), "FF": ("102541007", "feet-first")}
LYING = {
    "S": ("40199007", "supine"),
    "P": ("1240000", "prone"),
    "DR": ("102535000", "right lateral decubitus"),
    "DL": ("102536004", "left lateral decubitus"),
}


@dataclass(frozen=True)
class SourceModel:
    """The model that produced a synthetic PET.

    Attributes:
        model: Name of the model's card.
        checksum: SHA-256 of the model, hexadecimal.
        version: Version of ct2pet.
    """

    model: str
    checksum: str
    version: str


def label_as_synthetic(pet: Dataset, source_model: SourceModel, *, warning: str = "") -> None:
    """Mark an instance as synthetic, for users and for programs, and name its model.

    Args:
        pet: The instance.
        source_model: Its model.
        warning: About this PET; ImageComments begins with it.
    """
    name = _printable(source_model.model, MAX_LO_CHARACTERS) or "unnamed"
    pet.add_new(SYNTHETIC_DATA, "CS", "YES")
    pet.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]  # the only second value of PET (PS3.3 C.8.9.4.1.1)
    pet.SeriesDescription = f"{DESCRIPTION}: {name}"[:MAX_LO_CHARACTERS].strip()
    pet.ImageComments = f"{_printable(warning, MAX_WARNING_CHARACTERS)} {COMMENT}".strip()
    pet.ContentQualification, pet.BurnedInAnnotation = "RESEARCH", "NO"
    producer = f"ct2pet {source_model.version}, model {name}, SHA-256 {source_model.checksum}"
    pet.DerivationDescription = f"SYNTHETIC PET estimated from CT by {producer}. Not measured. NOT FOR DIAGNOSIS."
    # PS3.16 context group 7203 has no code for an estimate by a model; hence a private scheme (PS3.3 8.2)
    pet.DerivationCodeSequence = code("SYNTHETIC-PET", OUR_SCHEME, "Synthetic PET estimated from CT")
    pet.Manufacturer, pet.ManufacturerModelName = "ct2pet", name
    pet.SoftwareVersions = source_model.version
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = code(SYNTHESIZING, "DCM", "Synthesizing Equipment")
    equipment.Manufacturer, equipment.ManufacturerModelName = "ct2pet", name
    equipment.SoftwareVersions = [source_model.version, source_model.checksum[:MAX_LO_CHARACTERS]]
    equipment.ContributionDescription = f"Produced the synthetic PET: {producer}"
    pet.ContributingEquipmentSequence = Sequence([equipment])


def fill_pet_module(pet: Dataset, *, position: str) -> None:
    """Set the attributes required by PS3.3 C.8.9; `position` is the CT's PatientPosition."""
    pet.Units, pet.SUVType = "GML", "BW"
    pet.CountsSource, pet.SeriesType = "EMISSION", ["WHOLE BODY", "IMAGE"]
    pet.CorrectedImage, pet.DecayCorrection, pet.CollimatorType = "", "NONE", "NONE"
    pet.FrameReferenceTime, pet.ActualFrameDuration = "0", "0"
    pet.AcquisitionDate, pet.AcquisitionTime = "", ""
    pet.RadiopharmaceuticalInformationSequence = Sequence()
    gantry, lying = GANTRY.get(position[:2]), LYING.get(position[2:])
    pet.PatientOrientationCodeSequence = Sequence()
    pet.PatientGantryRelationshipCodeSequence = Sequence()
    if gantry is not None and lying is not None:
        pet.PatientOrientationCodeSequence = code(RECUMBENT[0], "SCT", RECUMBENT[1])
        pet.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = code(lying[0], "SCT", lying[1])
        pet.PatientGantryRelationshipCodeSequence = code(gantry[0], "SCT", gantry[1])


def code(value: str, scheme: str, meaning: str) -> Sequence:
    """Return a code sequence of one item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def _printable(text: str, limit: int) -> str:
    """Return text in printable ASCII without backslash, which would separate values, up to a number of characters."""
    kept = "".join(sign if " " <= sign <= "~" and sign != "\\" else "?" for sign in text)
    return " ".join(kept.split())[:limit]
