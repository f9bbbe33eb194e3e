"""Give the CTs of one patient's frame of reference to the PETs: at most one CT a PET and one PET a CT, with reasons.

First within each study; then PETs whose own study holds no CT that overlaps them look among the CTs of the patient's
other studies of that day. docs/decisions/0024-which-ct-belongs-to-a-pet.md tells why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lib.dicom.scan.scan import ScannedSeries
from lib.pairing.acquisitions import (
    Acquisition,
    acquisitions_of,
    acquisitions_using,
    is_nearer,
    pet_preference,
    pet_rank,
    reason_not_same_day,
)
from lib.pairing.candidates import Candidate, best_candidate, candidates_for

OTHER_STUDY = "; the CT is of another study of that day, for the PET's own holds none that can be used"


@dataclass(frozen=True, eq=False)
class Assigned:
    """A CT and the PET that it belongs to, and why these two."""

    ct: ScannedSeries
    pet: ScannedSeries
    reason: str


@dataclass(eq=False)
class FrameAssignment:
    """The series of one patient in one frame of reference, while CTs are given to PETs.

    Attributes:
        preferred: CTs that the user named.
        why: Why a series is in no pair, by the id of its object.
        assigned: What was decided.
        overlaps: Of each acquisition the CTs that overlap its PETs, by PET.
    """

    preferred: frozenset[str]
    why: dict[int, str]
    assigned: list[Assigned] = field(default_factory=list)
    overlaps: dict[int, list[Candidate]] = field(default_factory=dict)

    def run(self, group: Sequence[ScannedSeries]) -> list[Assigned]:
        """Return the pairs of a group of usable CTs and PETs."""
        cts = [found for found in group if found.series.modality == "CT"]
        pets = [found for found in group if found.series.modality == "PT"]
        by_study: dict[str, tuple[Acquisition, ...]] = {}
        for study_uid in sorted({pet.series.study_uid for pet in pets}):
            acquisitions = acquisitions_of(pet for pet in pets if pet.series.study_uid == study_uid)
            by_study[study_uid] = acquisitions
            own = [ct for ct in cts if ct.series.study_uid == study_uid]
            for pet in (pet for one in acquisitions for pet in one.pets):
                self._note_overlaps(pet, own)
            self._assign(acquisitions, suffix="")
        every = [acquisition for acquisitions in by_study.values() for acquisition in acquisitions]
        homeless = [one for one in every if not any(self.overlaps[id(pet)] for pet in one.pets)]
        for acquisition in homeless:
            self._look_in_other_studies(acquisition, cts, by_study)
        self._assign(homeless, suffix=OTHER_STUDY)
        return self.assigned

    def _note_overlaps(self, pet: ScannedSeries, cts: Iterable[ScannedSeries]) -> None:
        cts = list(cts)
        self.overlaps[id(pet)] = candidates_for(pet, cts, preferred=self.preferred, why=self.why)
        if cts and not self.overlaps[id(pet)]:
            self.why.setdefault(id(pet), "no original CT of the study overlaps it")

    def _look_in_other_studies(
        self, acquisition: Acquisition, cts: Sequence[ScannedSeries], by_study: dict[str, tuple[Acquisition, ...]]
    ) -> None:
        """Note the CTs of other studies that an acquisition may use."""
        taken = {id(one.ct) for one in self.assigned}
        for pet in acquisition.pets:
            others = [ct for ct in cts if ct.series.study_uid != pet.series.study_uid]
            if not others:
                continue
            if not pet.series.patient_id:
                self.why[id(pet)] = "no CT in the same study, and without PatientID none of another study is its own"
                continue
            elsewhere: dict[int, str] = {}
            found = candidates_for(pet, others, preferred=self.preferred, why=elsewhere)
            allowed = []
            for candidate in found:
                ct = candidate.ct
                why_not = reason_not_same_day(ct, pet) or self._why_of_its_study(ct, acquisition, by_study, taken)
                if why_not is None:
                    allowed.append(candidate)
                else:
                    elsewhere[id(ct)] = why_not
            self.overlaps[id(pet)] = allowed
            if not allowed:
                told = next(f"CT {ct.series.uid} {elsewhere[id(ct)]}" for ct in others if id(ct) in elsewhere)
                self.why[id(pet)] = f"no CT of its study can be used, and of the patient's other studies {told}"

    def _why_of_its_study(
        self,
        ct: ScannedSeries,
        acquisition: Acquisition,
        by_study: dict[str, tuple[Acquisition, ...]],
        taken: set[int],
    ) -> str | None:
        """Return why a CT belongs to a PET of its own study rather than to an acquisition of another."""
        if id(ct) in taken:
            return "is paired with a PET of its own study"
        home = [
            one
            for one in by_study.get(ct.series.study_uid, ())
            if any(candidate.ct is ct for pet in one.pets for candidate in self.overlaps[id(pet)])
        ]
        if is_nearer(ct, acquisition, than=home):
            return None
        return "belongs to a PET of its own study"

    def _assign(self, acquisitions: Sequence[Acquisition], *, suffix: str) -> None:
        """Give each acquisition one CT for its best PET; those with better PETs choose first."""
        users = self._users(acquisitions)
        taken = {id(one.ct) for one in self.assigned}
        for acquisition in sorted(acquisitions, key=lambda one: pet_rank(one.pets[0])):
            chosen: Assigned | None = None
            for pet in acquisition.pets:
                overlapping = self.overlaps[id(pet)]
                if chosen is not None:
                    why = pet_preference(chosen.pet, pet)
                    self.why[id(pet)] = f"another PET of the study is used ({chosen.pet.series.uid}): {why}"
                    continue
                usable = [one for one in overlapping if acquisition in users[id(one.ct)] and id(one.ct) not in taken]
                if usable:
                    chosen = self._choose(acquisition, pet, usable, suffix=suffix)
                    taken.add(id(chosen.ct))
                    self.assigned.append(chosen)
        for acquisition in acquisitions:
            for pet in acquisition.pets:
                if self.overlaps[id(pet)] and all(one.pet is not pet for one in self.assigned):
                    self.why.setdefault(id(pet), self._why_of_others(self.overlaps[id(pet)], users))

    def _users(self, acquisitions: Sequence[Acquisition]) -> dict[int, tuple[Acquisition, ...]]:
        """Return the acquisitions that may use each CT that overlaps any, by the id of the CT."""
        cts = {id(one.ct): one.ct for of in acquisitions for pet in of.pets for one in self.overlaps[id(pet)]}
        users = {}
        for ct in cts.values():
            near = [of for of in acquisitions if any(one.ct is ct for pet in of.pets for one in self.overlaps[id(pet)])]
            users[id(ct)] = acquisitions_using(ct, near) or (tuple(near) if ct.series.uid in self.preferred else ())
            if not users[id(ct)]:
                self.why[id(ct)] = (
                    f"{len(near)} PET acquisitions of its frame of reference overlap it, and a time is missing that "
                    "would tell which it belongs to; name this CT to use it all the same"
                )
        return users

    def _choose(
        self, acquisition: Acquisition, pet: ScannedSeries, usable: Sequence[Candidate], *, suffix: str
    ) -> Assigned:
        of_others = [one for one in self.overlaps[id(pet)] if one not in usable]
        best, reason = best_candidate(usable, preferred=self.preferred, of_others=of_others)
        for candidate in usable:
            if candidate is not best:
                self.why[id(candidate.ct)] = f"another CT of the study is used ({best.ct.series.uid}): {reason}"
        reason += suffix
        others = [other for other in acquisition.pets if other is not pet]
        if others:
            reason += f"; the PET: {pet_preference(pet, others[0])}"
        return Assigned(best.ct, pet, reason)

    def _why_of_others(self, overlapping: Sequence[Candidate], users: dict[int, tuple[Acquisition, ...]]) -> str:
        uid = overlapping[0].ct.series.uid
        mate = next((one.pet.series.uid for one in self.assigned if one.ct is overlapping[0].ct), None)
        if not users[id(overlapping[0].ct)]:
            return f"CT {uid} overlaps it, but does not tell when it was acquired, and so which PET it belongs to"
        if mate is None:
            return f"CT {uid} overlaps it, but was acquired nearer in time to another PET"
        return f"CT {uid} overlaps it, but is paired with PET {mate}, which was acquired nearer to it or is the better"
