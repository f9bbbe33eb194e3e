"""PET slices matched to CT slices: interpolated in plane only, not between slices."""

from __future__ import annotations

import numpy as np

from lib.errors import PairingError
from lib.imaging.geometry import Geometry
from lib.imaging.orientation import VoxelOrder
from lib.imaging.resample import resample_to
from lib.imaging.volume import Volume
from lib.pairing.slice_pairs import SliceMatch
from lib.types import FloatArray


def in_canonical_order(match: SliceMatch, ct: VoxelOrder, pet: VoxelOrder) -> SliceMatch:
    """Return the same pairs with slices counted from the feet; `PairedSeries.match` counts in stack order."""
    pairs = ((ct.box(slice(c, c + 1))[0].start, pet.box(slice(p, p + 1))[0].start) for c, p in match.pairs)
    return SliceMatch(tuple(sorted(pairs)), match.largest_offset_mm)


def matched_slices(pet: Volume, geometry: Geometry, match: SliceMatch, *, tolerance_mm: float) -> FloatArray:
    """Return the matched PET slices, interpolated in plane only, shape (pairs, R, C).

    Raises:
        PairingError: No slices match.
    """
    if not match.pairs:
        raise PairingError(
            f"no PET slice is within {tolerance_mm} mm of a CT slice (largest offset "
            f"{match.largest_offset_mm:.2f} mm); use a recipe with grid.slices = resample for this pair"
        )
    slices = []
    for ct_slice, pet_slice in match.pairs:
        target, source = geometry.slab(slice(ct_slice, ct_slice + 1)), pet.slab(slice(pet_slice, pet_slice + 1))
        offset_mm = (target.affine[:3, 3] - source.geometry.affine[:3, 3]) @ target.normal
        affine = source.geometry.affine.copy()
        affine[:3, 3] += offset_mm * target.normal
        moved = Volume(source.array, Geometry(source.geometry.shape, affine), pet.unit)
        slices.append(resample_to(moved, target).array[0])
    return np.stack(slices)
