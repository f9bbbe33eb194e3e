"""Group the PETs of a frame of reference by acquisition, and find the acquisition that a CT belongs to.

A patient may be scanned twice in one frame of reference, early and delayed. Each acquisition has its own CT, and all
reconstructions of an acquisition (several kernels, with and without time of flight) have the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib.dicom.acquisition_time import minutes_between
from lib.dicom.scan.ct_selection import SAME_TIME_MIN
from lib.dicom.scan.scan import ScannedSeries

# Head and body scans after one CT begin within this time; early and delayed scans are 30 min or more apart
SAME_VISIT_MIN = 20.0
OVER_MIDNIGHT_MIN = 6 * 60.0  # a CT and a PET closer in time are of one visit, even over midnight


@dataclass(frozen=True, eq=False)
class Acquisition:
    """PETs of one study acquired at the same time, the best first; `acquired` is empty if the time is unknown."""

    pets: tuple[ScannedSeries, ...]
    acquired: str

    def minutes_to(self, ct: ScannedSeries) -> float | None:
        """Return the minutes between acquisition and CT; None if either time is unknown."""
        minutes = minutes_between(self.acquired, ct.acquired)
        return None if minutes is None else abs(minutes)


def acquisitions_of(pets: Iterable[ScannedSeries]) -> tuple[Acquisition, ...]:
    """Return the acquisitions of a study's PETs, the earliest first.

    A PET without a time is assigned to the first: nothing indicates another one.
    """
    groups: list[list[ScannedSeries]] = []
    undated: list[ScannedSeries] = []
    for pet in sorted(pets, key=lambda pet: (pet.acquired, pet_rank(pet))):
        if not pet.acquired:
            undated.append(pet)
        elif groups and (minutes_between(groups[-1][-1].acquired, pet.acquired) or 0) <= SAME_TIME_MIN:
            groups[-1].append(pet)
        else:
            groups.append([pet])
    if undated:
        groups = [[*undated, *(groups[0] if groups else ())], *groups[1:]]
    several = len(groups) > 1  # then PETs with a time go first
    return tuple(
        Acquisition(
            tuple(sorted(group, key=lambda pet: (several and not pet.acquired, pet_rank(pet)))),
            min((pet.acquired for pet in group if pet.acquired), default=""),
        )
        for group in groups
    )


def pet_rank(pet: ScannedSeries) -> tuple[bool, int, bool, str]:
    """Return the sort key of PETs of one acquisition: SUV, then number of slices, then original images, then UID."""
    return not pet.has_suv, -len(pet.positions_mm), not pet.is_original, pet.series.uid


def pet_preference(chosen: ScannedSeries, other: ScannedSeries) -> str:
    """Return why one PET of an acquisition is preferred to another, as text."""
    if chosen.has_suv != other.has_suv:
        return "it has SUV"
    if len(chosen.positions_mm) != len(other.positions_mm):
        return f"it has more slices ({len(chosen.positions_mm)} instead of {len(other.positions_mm)})"
    return "it is the original" if chosen.is_original != other.is_original else "its UID comes first, all else is equal"


def acquisitions_using(ct: ScannedSeries, acquisitions: Sequence[Acquisition]) -> tuple[Acquisition, ...]:
    """Return the acquisitions that may use a CT: the nearest in time, and those of the same visit.

    Return none if there are several and a time is missing: the choice would be a guess.
    """
    if len(acquisitions) < 2:
        return tuple(acquisitions)
    minutes = [acquisition.minutes_to(ct) for acquisition in acquisitions]
    known = [one for one in minutes if one is not None]
    if len(known) < len(minutes):
        return ()
    reach = min(known) + SAME_VISIT_MIN
    return tuple(one for one, away in zip(acquisitions, known, strict=True) if away <= reach)


def is_nearer(ct: ScannedSeries, acquisition: Acquisition, *, than: Iterable[Acquisition]) -> bool:
    """Return whether a CT is known to be nearer in time to an acquisition than to all others."""
    own = acquisition.minutes_to(ct)
    others = [other.minutes_to(ct) for other in than]
    return all(own is not None and other is not None and own < other for other in others)


def reason_not_same_day(ct: ScannedSeries, pet: ScannedSeries) -> str | None:
    """Return why a CT and a PET may not be of the same day; None if they are, or are hours apart over midnight."""
    minutes = minutes_between(ct.acquired, pet.acquired)
    if minutes is not None:
        if ct.acquired[:8] == pet.acquired[:8] or math.fabs(minutes) <= OVER_MIDNIGHT_MIN:
            return None
        return f"was acquired on another day ({ct.acquired[:8]}, the PET {pet.acquired[:8]})"
    if ct.study_date and pet.study_date:
        same = ct.study_date == pet.study_date
        return None if same else f"is of another day (StudyDate {ct.study_date}, of the PET {pet.study_date})"
    days, pet_days = ({moment[:8] for moment in found.moments} for found in (ct, pet))
    if not days or not pet_days:
        return "may be of another day: a date is missing"
    return None if days & pet_days else f"is of another day ({min(days)}, the PET {min(pet_days)})"
