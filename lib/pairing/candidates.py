"""Find the CTs that overlap a PET, how much of it each covers, and choose the best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.dicom.acquisition_time import minutes_between
from lib.dicom.scan.ct_selection import CtTraits, choose_ct, when
from lib.dicom.scan.scan import ScannedSeries
from lib.errors import PairingError
from lib.imaging.geometry import Geometry
from lib.pairing.slice_pairs import common_positions_mm

COVERED_ALIKE = 0.05  # covered fractions that differ by less count as equal: 1 cm sideways, a slice or two
REPORTED_FROM_MIN = 60.0  # the reason names larger time differences: the patient may have moved


@dataclass(frozen=True, eq=False)
class Candidate:
    """A CT that overlaps a PET, and the fraction of the PET's box inside the CT's box, above 0."""

    ct: ScannedSeries
    pet: ScannedSeries
    share: float

    @property
    def minutes_after(self) -> float | None:
        """Minutes from the PET to the CT; negative if the CT was first, None if a time is unknown."""
        return minutes_between(self.pet.acquired, self.ct.acquired)

    @property
    def traits(self) -> CtTraits:
        """The properties by which CTs are compared."""
        ct = self.ct
        return CtTraits(
            uid=ct.series.uid,
            description=ct.series.description,
            slices=len(ct.positions_mm),
            minutes_after=self.minutes_after,
            kernel=ct.convolution_kernel,
            contrast_agent=ct.contrast_agent,
        )


def candidates_for(
    pet: ScannedSeries, cts: Iterable[ScannedSeries], *, preferred: frozenset[str], why: dict[int, str]
) -> list[Candidate]:
    """Return the CTs that overlap a PET; add the reason for each other one to `why`, by the id of its object."""
    found = []
    for ct in cts:
        if not ct.is_original and ct.series.uid not in preferred:
            why[id(ct)] = f"ImageType {'/'.join(ct.image_type[:2])} is not ORIGINAL; name this CT to use it anyway"
            continue
        try:
            common_positions_mm(ct, pet)
        except PairingError as error:
            why[id(pet)] = why[id(ct)] = str(error)
            continue
        share = covered_share(ct, pet)
        if share > 0:
            found.append(Candidate(ct, pet, share))
        else:
            why.setdefault(id(ct), f"does not overlap PET {pet.series.uid}")
    return found


def best_candidate(
    candidates: Sequence[Candidate], *, preferred: frozenset[str], of_others: Sequence[Candidate] = ()
) -> tuple[Candidate, str]:
    """Return the best candidate and the reason as text.

    Args:
        candidates: At least one, all for the same PET.
        preferred: UIDs of CTs that the user named; they are preferred to all others.
        of_others: Further CTs that overlap the PET but belong to another one by their time.
    """
    named = [candidate for candidate in candidates if candidate.ct.series.uid in preferred]
    pool = named or candidates
    largest = max(candidate.share for candidate in pool)
    alike = [candidate for candidate in pool if candidate.share >= largest - COVERED_ALIKE]
    chosen, difference = choose_ct([candidate.traits for candidate in alike])
    best = alike[chosen]
    if named:
        reason = "the CT was named by the user"
    elif len(candidates) > len(alike) == 1:
        second = max(candidate.share for candidate in candidates if candidate is not best)
        reason = f"the CT covers {best.share:.0%} of the PET, the next one {second:.0%}"
    elif len(alike) > 1:
        reason = f"{len(alike)} CTs cover {best.share:.0%} of the PET; this one {difference}"
    elif of_others:
        reason = f"the CT covers {best.share:.0%} of the PET"
    else:
        reason = f"the only CT that overlaps the PET; it covers {best.share:.0%} of it"
    return best, reason + _of_time(best, of_others)


def _of_time(best: Candidate, of_others: Sequence[Candidate]) -> str:
    if of_others:
        nearest = min(of_others, key=lambda candidate: candidate.traits.minutes_away)
        return f"; acquired {when(best.minutes_after)}, the next CT {when(nearest.minutes_after)}"
    if best.minutes_after is not None and abs(best.minutes_after) > REPORTED_FROM_MIN:
        return f"; acquired {when(best.minutes_after)}"
    return ""


def covered_share(ct: ScannedSeries, pet: ScannedSeries) -> float:
    """Return the fraction, 0 to 1, of the PET's box that is inside the CT's box, to the outer edges of voxels."""
    if ct.geometry is None or pet.geometry is None:
        return 0.0
    corners = ct.geometry.to_voxel(_outer_corners_mm(pet.geometry))
    low, high = corners.min(axis=0), corners.max(axis=0)
    slices, rows, columns = ct.geometry.shape
    ends = np.array([columns, rows, slices]) - 0.5
    inside = np.clip(np.minimum(high, ends) - np.maximum(low, -0.5), 0, None) / (high - low)
    return float(np.prod(inside))


def _outer_corners_mm(geometry: Geometry) -> NDArray[np.float64]:
    slices, rows, columns = geometry.shape
    voxels = [(c, r, k) for k in (-0.5, slices - 0.5) for r in (-0.5, rows - 0.5) for c in (-0.5, columns - 0.5)]
    return geometry.to_world(np.array(voxels))
