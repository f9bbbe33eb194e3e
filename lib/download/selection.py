"""Which CT and which PET of an archive's patient are worth fetching, told from the archive's list alone.

The rules foresee what `pair` will do once the headers are here: a PET and a CT of one patient, both measured, axial and
whole. The list knows SOP class, colours, number of images and description; position, time and frame of reference it
does not know, so that the last word stays with `pair`.

One PET for each study that holds any: attenuation-corrected by name, then not gated, then with the most images. One CT
for it: of the PET's own study, or where that holds none, of another study of the patient on that day; among these by
the policy that `pair` follows, too (`lib/dicom/scan/ct_selection.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from lib.dicom.scan.ct_selection import CtTraits, choose_ct
from lib.dicom.series_attributes import CORRECTED, GATED, NOT_CORRECTED, normalized
from lib.download.idc import IndexedSeries

SOP_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128"}
MIN_IMAGES = 20  # a PET of one bed position has 35 and more; scouts, reports and key images have fewer
# Of descriptions in capitals, with one space for all between letters and digits (`lib/dicom/series_attributes.py`)
UNUSABLE = {
    "a scout": r"SCOUT|TOPO\b|TOPOGRAM|LOCALI[SZ]ER|SCANOGRAM|SURVIEW|SURVEY",
    "a colour fusion": r"ALPHA RANGE|FUSED",
    "a projection": r"\bMIP\b|MAXIMUM INTENSITY",
    "not axial": r"\bSAG(ITTAL)?\b|(?<!ATTEN )(?<!ATTN )(?<!ATT )\bCOR(ONAL)?\b",  # "atten cor" is a correction
    "a report": r"REPORT|PROTOCOL|STATISTICS|SCREEN ?(SAVE|SHOT)|PROCESSED IMAGES",
}


@dataclass(frozen=True)
class ChosenPair:
    """The CT and the PET to fetch for one PET study."""

    ct: IndexedSeries
    pet: IndexedSeries

    @property
    def in_one_study(self) -> bool:
        """Whether both are of one study; `pair` joins others, too, where day and frame of reference are the same."""
        return self.ct.study_instance_uid == self.pet.study_instance_uid


@dataclass(frozen=True)
class UnpairedStudy:
    """A study with PET that gives no pair, and why."""

    patient_id: str
    study_instance_uid: str
    reason: str


def choose_pairs(series: Iterable[IndexedSeries]) -> tuple[tuple[ChosenPair, ...], tuple[UnpairedStudy, ...]]:
    """Return a pair for each study that holds a PET, by patient and study, and the studies that give none."""
    pairs: list[ChosenPair] = []
    left_out: list[UnpairedStudy] = []
    ordered = sorted(series, key=lambda one: (one.patient_id, one.study_instance_uid))
    for patient_id, of_patient in groupby(ordered, key=lambda one: one.patient_id):
        own = tuple(of_patient)
        for study_uid in dict.fromkeys(one.study_instance_uid for one in own if one.modality == "PT"):
            chosen = _choose_pair(own, study_uid)
            if isinstance(chosen, ChosenPair):
                pairs.append(chosen)
            else:
                left_out.append(UnpairedStudy(patient_id, study_uid, chosen))
    return tuple(pairs), tuple(left_out)


def why_not(series: IndexedSeries) -> str | None:
    """Return why a series is not worth fetching, None where it is."""
    if series.analysis_result_id:
        return f"computed by others ({series.analysis_result_id}), not measured"
    if "RGB" in series.photometric_interpretation or series.sop_class_uid != SOP_CLASSES[series.modality]:
        return "not a CT or PET image by its SOP class or its colours, such as a console's fusion"
    if series.images < MIN_IMAGES:
        return f"only {series.images} images"
    said = normalized(series.description)
    for what, pattern in UNUSABLE.items():
        if re.search(pattern, said):
            return f"{what} by its description"
    if series.modality == "PT" and re.search(NOT_CORRECTED, said):
        return "not corrected for attenuation by its description"
    return None


def _choose_pair(of_patient: Sequence[IndexedSeries], study_uid: str) -> ChosenPair | str:
    """Return the pair of a study with PET, or why there is none."""
    pets = [one for one in of_patient if one.modality == "PT" and one.study_instance_uid == study_uid]
    usable_pets = [one for one in pets if why_not(one) is None]
    if not usable_pets:
        return f"no usable PET: {why_not(pets[0])}"
    pet = min(usable_pets, key=_pet_rank)
    cts = [one for one in of_patient if one.modality == "CT" and why_not(one) is None]
    own = [one for one in cts if one.study_instance_uid == study_uid]
    near = own or [one for one in cts if pet.study_date and one.study_date == pet.study_date]
    if not near:
        return "no usable CT in the PET's study, nor on its day"
    chosen, _ = choose_ct([CtTraits(one.series_instance_uid, one.description, one.images) for one in near])
    return ChosenPair(ct=near[chosen], pet=pet)


def _pet_rank(pet: IndexedSeries) -> tuple[bool, bool, int, str]:
    said = normalized(pet.description)
    return not re.search(CORRECTED, said), bool(re.search(GATED, said)), -pet.images, pet.series_instance_uid
