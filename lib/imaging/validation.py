"""Whether a volume can be a CT in HU that a network may see: a file says nothing of its modality, its numbers do."""

from __future__ import annotations

import numpy as np

from lib.errors import ImageFileError
from lib.imaging.files.extent import refuse_implausible_extent
from lib.imaging.orientation import refuse_oblique
from lib.imaging.volume import Volume

MIN_SLICES = 2  # one slice has no spacing, and no neighbours to enter as context
PADDING_HU = -1024.0  # what lies here or below is what was put outside the scan, and says nothing of the scale
AIR_BELOW_HU = -200.0  # no tissue lies below; air, lung and bowel gas do
TISSUE_BELOW_HU = 300.0  # fat, water, muscle and organs, contrast agent included, lie between
MIN_AIR, MIN_TISSUE = 0.001, 0.005  # shares of voxels; 36 limbs and a chest have at least 0.10 and 0.21
HIGHEST_HU = 32767.0  # of 16-bit CT with the extended scale for metal


def refuse_unless_ct(volume: Volume, what: str) -> None:
    """Return when the numbers can be a CT in HU, in a voxel order that is the canonical one's but for flips.

    Args:
        volume: As read, in HU if it is what it should be.
        what: How the message calls it: a file name or a series UID.

    Raises:
        ImageFileError: A single slice, an oblique volume, one value everywhere, no air, no tissue, or numbers no
            scanner gives. The message says what was found, what was expected, and what it may be instead.
    """
    slices = volume.geometry.shape[0]
    if slices < MIN_SLICES:
        raise ImageFileError(f"{what}: {slices} slice, expected a CT volume of at least {MIN_SLICES}")
    refuse_oblique(volume.geometry, what)
    refuse_implausible_extent(volume.geometry, what)
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        raise ImageFileError(f"{what}: every voxel is {low:g}, expected a CT in HU; is the export complete?")
    if high > HIGHEST_HU:
        raise ImageFileError(f"{what}: values up to {high:g}, expected a CT in HU, at most {HIGHEST_HU:g}")
    limits = (np.nextafter(np.float32(PADDING_HU), np.float32(0)), AIR_BELOW_HU, TISSUE_BELOW_HU)
    padding, up_to_air, up_to_tissue = (_share_below(volume, limit) for limit in limits)
    air, tissue = up_to_air - padding, up_to_tissue - up_to_air
    if air < MIN_AIR or tissue < MIN_TISSUE:
        raise ImageFileError(
            f"{what}: not a CT in HU: values from {low:g} to {high:g}, {air:.1%} of them {PADDING_HU:g} to "
            f"{AIR_BELOW_HU:g} (air) and {tissue:.1%} up to {TISSUE_BELOW_HU:g} (tissue); expected both, air near "
            "-1000 and water near 0. "
            f"{_likely(low, high)}"
        )


def _share_below(volume: Volume, limit_hu: float) -> float:
    # slice by slice: masks of a whole CT take longer to make room for than to count
    return sum(int(np.count_nonzero(of_slice < limit_hu)) for of_slice in volume.array) / volume.array.size


def _likely(low: float, high: float) -> str:
    if low >= 0 and high <= 255 and high > 100:
        return "It looks like an 8-bit picture: export the CT itself, not what a viewer shows."
    if low >= 0 and 1000 < high < 8192:
        return "It looks like stored values without RescaleIntercept, or an MR: export the CT as HU."
    if low >= 0:
        return "It looks like a PET or an MR: give the CT of the study."
    return "It looks like a normalised or already windowed image: export the CT as HU."
