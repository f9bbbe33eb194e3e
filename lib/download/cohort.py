"""Cohorts of the archive: their patients, and the series to fetch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lib.download.idc import IndexedSeries, index_version, read_collection
from lib.download.selection import ChosenPair, UnpairedStudy, choose_pairs
from lib.errors import InputError

__all__ = ["PAPER_PATIENTS", "Census", "Cohort", "Selection", "census", "parse_cohort", "select_cohort"]

LUNG_PET_CT_DX = "lung_pet_ct_dx"
# The paper uses the small-cell patients (type B) with CT and PET, which are nine in the public index.
PAPER_PATIENTS = tuple(f"Lung_Dx-B{number:04d}" for number in (33, 34, 36, 37, 38, 40, 41, 42, 43))


@dataclass(frozen=True)
class Cohort:
    """Patients of one collection; all of them if `patients` is empty."""

    name: str
    collection_id: str
    patients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Census:
    """Number and size of CT and PET images in an archive, usable or not."""

    patients: int
    patients_with_both: tuple[str, ...]
    ct_images: int
    pet_images: int
    size_bytes: int

    @property
    def images(self) -> int:
        """Number of CT and PET images together."""
        return self.ct_images + self.pet_images


@dataclass(frozen=True)
class Selection:
    """Series of a cohort to fetch; `archive` counts all images of its patients with CT and PET."""

    cohort: Cohort
    index_version: str
    archive: Census
    pairs: tuple[ChosenPair, ...]
    left_out: tuple[UnpairedStudy, ...]

    @property
    def series(self) -> tuple[IndexedSeries, ...]:
        """All series to fetch, without duplicates, each CT before its PET."""
        return tuple(dict.fromkeys(series for pair in self.pairs for series in (pair.ct, pair.pet)))

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients of the pairs, without duplicates."""
        return tuple(dict.fromkeys(pair.pet.patient_id for pair in self.pairs))

    @property
    def images(self) -> int:
        """Number of images to fetch."""
        return sum(series.images for series in self.series)

    @property
    def size_bytes(self) -> int:
        """Number of bytes to fetch."""
        return sum(series.size_bytes for series in self.series)

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of the series, most frequent first."""
        return tuple(name for name, _ in Counter(series.licence for series in self.series).most_common())

    @property
    def dois(self) -> tuple[str, ...]:
        """The DOIs of the sources to cite, sorted."""
        return tuple(sorted({series.doi for series in self.series}))


def parse_cohort(text: str) -> Cohort:
    """Return the cohort with a name: paper, lung, or idc:COLLECTION (case and dashes are ignored).

    Raises:
        InputError: The name has another form.
    """
    if text == "paper":
        return Cohort(text, LUNG_PET_CT_DX, PAPER_PATIENTS)
    if text == "lung":
        return Cohort(text, LUNG_PET_CT_DX)
    kind, _, collection = text.partition(":")
    if kind != "idc" or not collection:
        raise InputError(f"cohort {text!r}: expected paper, lung or idc:COLLECTION, such as idc:soft_tissue_sarcoma")
    return Cohort(text, collection.strip().lower().replace("-", "_"))


def census(series: Iterable[IndexedSeries]) -> Census:
    """Return the number of patients and images of series."""
    everything = tuple(series)
    modalities: dict[str, set[str]] = {}
    images: Counter[str] = Counter()
    for one in everything:
        modalities.setdefault(one.patient_id, set()).add(one.modality)
        images[one.modality] += one.images
    both = tuple(sorted(patient for patient, has in modalities.items() if {"CT", "PT"} <= has))
    return Census(len(modalities), both, images["CT"], images["PT"], sum(one.size_bytes for one in everything))


def select_cohort(cohort: Cohort, *, patients: int | None = None) -> Selection:
    """Return the series of a cohort to fetch.

    Args:
        cohort: The cohort.
        patients: Maximum number of patients. Those with CT and PET in one study come first, then by PatientID.

    Raises:
        InputError: The index is not installed or has no such collection, or no series of it can be paired.
    """
    listed = read_collection(cohort.collection_id)
    if cohort.patients:
        listed = tuple(series for series in listed if series.patient_id in cohort.patients)
    both = frozenset(census(listed).patients_with_both)
    listed = tuple(series for series in listed if series.patient_id in both)
    pairs, left_out = choose_pairs(listed)
    if not pairs:
        raise InputError(
            f"cohort {cohort.name}: no patient has a usable CT and PET ({len(both)} have both modalities; "
            f"{left_out[0].reason if left_out else 'no study holds PET'}); name another collection"
        )
    selection = Selection(cohort, index_version(), census(listed), pairs, left_out)
    return selection if patients is None else _first(selection, patients)


def _first(selection: Selection, patients: int) -> Selection:
    joined = {pair.pet.patient_id for pair in selection.pairs if pair.in_one_study}
    first = sorted(selection.patients, key=lambda patient: (patient not in joined, patient))[:patients]
    return replace(
        selection,
        pairs=tuple(pair for pair in selection.pairs if pair.pet.patient_id in first),
        left_out=tuple(study for study in selection.left_out if study.patient_id in first),
    )
