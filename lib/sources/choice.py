"""Which CT and which PET of an archive's patient are worth fetching, told from the archive's list alone.

The rules foresee what `pair` will do once the headers are here: a PET and a CT of one study, both measured, axial and
whole. The list knows SOP class, colours, number of images and description; position and frame of reference it does not
know, so that the last word stays with `pair`.

One PET for each study that holds any: attenuation-corrected by name, then not gated, then with the most images. One CT
for it: of the PET's own study, or where that holds none, of another study of the patient on that day; then the one made
for the PET (WB, AC: it covers the PET), then not a console's resampled copy, then a soft kernel before a sharp one
(lung, bone), then the one with the most images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from lib.sources.archive import IndexedSeries

SOP_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "PT": "1.2.840.10008.5.1.4.1.1.128"}
FEWEST_IMAGES = 20  # a PET of one bed position has 35 and more; scouts, reports and key images have fewer
# What a description says in capitals, with one space for all between letters and digits. Chosen on the descriptions of
# the collections with CT and PET in idc-index-data 25.0.5.
UNUSABLE = {
    "a scout": r"SCOUT|TOPO\b|TOPOGRAM|LOCALI[SZ]ER|SCANOGRAM|SURVIEW|SURVEY",
    "a colour fusion": r"ALPHA RANGE|FUSED",
    "a projection": r"\bMIP\b|MAXIMUM INTENSITY",
    "not axial": r"\bSAG(ITTAL)?\b|(?<!ATTEN )(?<!ATTN )(?<!ATT )\bCOR(ONAL)?\b",  # "atten cor" is a correction
    "a report": r"REPORT|PROTOCOL|STATISTICS|SCREEN ?(SAVE|SHOT)|PROCESSED IMAGES",
}
NOT_CORRECTED = r"NAC\d?\b|\bNO[NT]? ?(AC\b|ATT)|UNCORR"
CORRECTED = r"AC\d?\b|CORR|ATT(N|EN)|\bSUV\b"
GATED = r"GATED|\b4D\b|\bDYN|\bCINE|PHASE"
FOR_THE_PET = r"AC\b|\bWB\b|WHOLE ?BODY|ATT(N|EN)|\bPET\b"
SHARP_KERNEL = r"\b[BI][5-9]\d[FS]?\b|LUNG|BONE"
RESAMPLED = r"FUSION"


@dataclass(frozen=True)
class ChosenPair:
    """The CT and the PET to fetch for one PET study."""

    ct: IndexedSeries
    pet: IndexedSeries

    @property
    def in_one_study(self) -> bool:
        """Whether `pair` can join them; it does not join series of two studies."""
        return self.ct.study_instance_uid == self.pet.study_instance_uid


@dataclass(frozen=True)
class LeftOut:
    """A study with PET that gives no pair, and why."""

    patient_id: str
    study_instance_uid: str
    reason: str


def choose_pairs(series: Iterable[IndexedSeries]) -> tuple[tuple[ChosenPair, ...], tuple[LeftOut, ...]]:
    """Return a pair for each study that holds a PET, by patient and study, and the studies that give none."""
    pairs: list[ChosenPair] = []
    left_out: list[LeftOut] = []
    ordered = sorted(series, key=lambda one: (one.patient_id, one.study_instance_uid))
    for patient_id, of_patient in groupby(ordered, key=lambda one: one.patient_id):
        own = tuple(of_patient)
        for study_uid in dict.fromkeys(one.study_instance_uid for one in own if one.modality == "PT"):
            chosen = _choose_pair(own, study_uid)
            if isinstance(chosen, ChosenPair):
                pairs.append(chosen)
            else:
                left_out.append(LeftOut(patient_id, study_uid, chosen))
    return tuple(pairs), tuple(left_out)


def why_not(series: IndexedSeries) -> str | None:
    """Return why a series is not worth fetching, None where it is."""
    if series.analysis_result_id:
        return f"computed by others ({series.analysis_result_id}), not measured"
    if "RGB" in series.photometric_interpretation or series.sop_class_uid != SOP_CLASSES[series.modality]:
        return "not a CT or PET image by its SOP class or its colours, such as a console's fusion"
    if series.images < FEWEST_IMAGES:
        return f"only {series.images} images"
    said = _words(series)
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
    return ChosenPair(ct=min(near, key=_ct_rank), pet=pet)


def _pet_rank(pet: IndexedSeries) -> tuple[bool, bool, int, str]:
    said = _words(pet)
    return not re.search(CORRECTED, said), bool(re.search(GATED, said)), -pet.images, pet.series_instance_uid


def _ct_rank(ct: IndexedSeries) -> tuple[bool, bool, bool, int, str]:
    said = _words(ct)
    flaws = (not re.search(FOR_THE_PET, said), bool(re.search(RESAMPLED, said)), bool(re.search(SHARP_KERNEL, said)))
    return *flaws, -ct.images, ct.series_instance_uid


def _words(series: IndexedSeries) -> str:
    return " ".join(re.split(r"[^A-Z0-9]+", series.description.upper()))
