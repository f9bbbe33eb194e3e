"""Which PETs of a frame of reference were acquired together, and to which acquisition a CT belongs.

A patient may be scanned twice in one frame of reference, early and delayed. Each acquisition has a CT of its own, and
what was reconstructed from one acquisition (several kernels, with and without time of flight) has the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lib.dicom.acquisition_time import minutes_between
from lib.dicom.scan.ct_selection import SAME_TIME_MIN
from lib.dicom.scan.scan import ScannedSeries

# Head and body, scanned one after the other behind one CT, begin less far apart; early and delayed scans 30 min or more
SAME_VISIT_MIN = 20.0
OVER_MIDNIGHT_MIN = 6 * 60.0  # a CT and a PET that lie closer are of one visit, whatever day it ended on


@dataclass(frozen=True, eq=False)
class Acquisition:
    """PETs of one study that were acquired at one time, the best first; `acquired` is empty where none tells when."""

    pets: tuple[ScannedSeries, ...]
    acquired: str

    def minutes_to(self, ct: ScannedSeries) -> float | None:
        """Return how far a CT is in time; None where either is not known."""
        minutes = minutes_between(self.acquired, ct.acquired)
        return None if minutes is None else abs(minutes)


def acquisitions_of(pets: Iterable[ScannedSeries]) -> tuple[Acquisition, ...]:
    """Return the acquisitions of a study's PETs, the earliest first.

    A PET that does not tell its time counts to the first: nothing says that it is another.
    """
    groups: list[list[ScannedSeries]] = []
    untold: list[ScannedSeries] = []
    for pet in sorted(pets, key=lambda pet: (pet.acquired, pet_rank(pet))):
        if not pet.acquired:
            untold.append(pet)
        elif groups and (minutes_between(groups[-1][-1].acquired, pet.acquired) or 0) <= SAME_TIME_MIN:
            groups[-1].append(pet)
        else:
            groups.append([pet])
    if untold:
        groups = [[*untold, *(groups[0] if groups else ())], *groups[1:]]
    several = len(groups) > 1  # then a time that is told counts most
    return tuple(
        Acquisition(
            tuple(sorted(group, key=lambda pet: (several and not pet.acquired, pet_rank(pet)))),
            min((pet.acquired for pet in group if pet.acquired), default=""),
        )
        for group in groups
    )


def pet_rank(pet: ScannedSeries) -> tuple[bool, int, bool, str]:
    """Return what orders PETs of one acquisition: with SUV, then more slices, then the original, then by UID."""
    return not pet.has_suv, -len(pet.positions_mm), not pet.is_original, pet.series.uid


def pet_preference(chosen: ScannedSeries, other: ScannedSeries) -> str:
    """Return in words why one PET of an acquisition goes before another."""
    if chosen.has_suv != other.has_suv:
        return "it has SUV"
    if len(chosen.positions_mm) != len(other.positions_mm):
        return f"it has more slices ({len(chosen.positions_mm)} against {len(other.positions_mm)})"
    return "it is the original" if chosen.is_original != other.is_original else "the two are alike, its UID comes first"


def acquisitions_using(ct: ScannedSeries, acquisitions: Sequence[Acquisition]) -> tuple[Acquisition, ...]:
    """Return the acquisitions that may use a CT: the nearest in time, and those of the same visit.

    Where there are several and a time is missing, nothing tells which, and it is none.
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
    """Return whether a CT is surely nearer in time to an acquisition than to others."""
    own = acquisition.minutes_to(ct)
    others = [other.minutes_to(ct) for other in than]
    return all(own is not None and other is not None and own < other for other in others)


def reason_not_same_day(ct: ScannedSeries, pet: ScannedSeries) -> str | None:
    """Return why a CT and a PET are not known to be of one day; None where they are, also over midnight."""
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
        return "cannot be told to be of the same day: a date is missing"
    return None if days & pet_days else f"is of another day ({min(days)}, the PET {min(pet_days)})"
