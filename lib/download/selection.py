"""Selection of the CT and PET to fetch for each patient, from the archive's index alone.

The rules anticipate pairing, which uses headers: a PET and a CT of one patient, both measured, axial and complete. The
index has SOP class, photometric interpretation, number of images and description, but not position, time and frame of
reference, so pairing may still refuse a series.

One PET is selected for each study with PET: attenuation-corrected by name, then not gated, then with the most images.
Its CT is of the PET's study, or if that has none, of another study of the patient on that day; among several by the
policy of pairing (`lib/dicom/scan/ct_selection.py`).
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
MIN_IMAGES = 20  # a PET of one bed position has at least 35; scouts, reports and key images have fewer
# Matched against normalized descriptions (`lib/dicom/series_attributes.py`)
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
        """Whether both are of one study; pairing also accepts two studies with equal day and frame of reference."""
        return self.ct.study_instance_uid == self.pet.study_instance_uid


@dataclass(frozen=True)
class UnpairedStudy:
    """A study with PET but without a pair, and the reason."""

    patient_id: str
    study_instance_uid: str
    reason: str


def choose_pairs(series: Iterable[IndexedSeries]) -> tuple[tuple[ChosenPair, ...], tuple[UnpairedStudy, ...]]:
    """Return a pair for each study with PET, by patient and study, and the studies without a pair."""
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
    """Return why a series is not usable; None if it is."""
    if series.analysis_result_id:
        return f"computed ({series.analysis_result_id}), not measured"
    if "RGB" in series.photometric_interpretation or series.sop_class_uid != SOP_CLASSES[series.modality]:
        return "not a CT or PET image by its SOP class or its colours, such as a console's fusion"
    if series.images < MIN_IMAGES:
        return f"only {series.images} images"
    text = normalized(series.description)
    for what, pattern in UNUSABLE.items():
        if re.search(pattern, text):
            return f"{what} by its description"
    if series.modality == "PT" and re.search(NOT_CORRECTED, text):
        return "not corrected for attenuation by its description"
    return None


def _choose_pair(of_patient: Sequence[IndexedSeries], study_uid: str) -> ChosenPair | str:
    """Return the pair of a study with PET, or the reason why there is none."""
    pets = [one for one in of_patient if one.modality == "PT" and one.study_instance_uid == study_uid]
    usable_pets = [one for one in pets if why_not(one) is None]
    if not usable_pets:
        return f"no usable PET: {why_not(pets[0])}"
    pet = min(usable_pets, key=_pet_rank)
    cts = [one for one in of_patient if one.modality == "CT" and why_not(one) is None]
    own = [one for one in cts if one.study_instance_uid == study_uid]
    candidates = own or [one for one in cts if pet.study_date and one.study_date == pet.study_date]
    if not candidates:
        return "no usable CT in the PET's study or on its day"
    chosen, _ = choose_ct([CtTraits(one.series_instance_uid, one.description, one.images) for one in candidates])
    return ChosenPair(ct=candidates[chosen], pet=pet)


def _pet_rank(pet: IndexedSeries) -> tuple[bool, bool, int, str]:
    text = normalized(pet.description)
    return (
        not re.search(CORRECTED, text),
        bool(re.search(GATED, text)),
        -pet.images,
        pet.series_instance_uid,
    )
