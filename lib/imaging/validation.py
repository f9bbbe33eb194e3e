"""Check that a volume is a CT in HU by its values; volume files do not state their modality."""

from __future__ import annotations

import numpy as np

from lib.errors import ImageFileError
from lib.imaging.files.extent import refuse_implausible_extent
from lib.imaging.orientation import refuse_oblique
from lib.imaging.volume import Volume

MIN_SLICES = 2  # one slice has no spacing, and no neighbours as context
PADDING_HU = -1024.0  # values up to this are padding outside the scan
AIR_BELOW_HU = -200.0  # below: air, lung and bowel gas, no other tissue
TISSUE_BELOW_HU = 300.0  # up to this: fat, water, muscle and organs, with contrast agent too
MIN_AIR, MIN_TISSUE = 0.001, 0.005  # fractions of voxels; 36 limbs and a chest have at least 0.10 and 0.21
MAX_HU = 32767.0  # of 16-bit CT with the extended scale for metal


def refuse_unless_ct(volume: Volume, what: str) -> None:
    """Raise an error unless the values can be a CT in HU, and the volume is not oblique.

    Args:
        volume: The volume as read, presumably in HU.
        what: Name of the volume in the message: a file name or a series UID.

    Raises:
        ImageFileError: A single slice, an oblique volume, a constant volume, no air, no tissue, or values outside the
            range of scanners. The message has what was found, what was expected, and what the volume may be instead.
    """
    slices = volume.geometry.shape[0]
    if slices < MIN_SLICES:
        raise ImageFileError(f"{what}: {slices} slice, expected a CT volume of at least {MIN_SLICES}")
    refuse_oblique(volume.geometry, what)
    refuse_implausible_extent(volume.geometry, what)
    low, high, shares = _summary(volume)
    if low == high:
        raise ImageFileError(f"{what}: every voxel is {low:g}, expected a CT in HU; is the export complete?")
    if high > MAX_HU:
        raise ImageFileError(f"{what}: values up to {high:g}, expected a CT in HU, at most {MAX_HU:g}")
    padding, up_to_air, up_to_tissue = shares
    air, tissue = up_to_air - padding, up_to_tissue - up_to_air
    if air < MIN_AIR or tissue < MIN_TISSUE:
        raise ImageFileError(
            f"{what}: not a CT in HU: values from {low:g} to {high:g}, {air:.1%} of them {PADDING_HU:g} to "
            f"{AIR_BELOW_HU:g} (air) and {tissue:.1%} up to {TISSUE_BELOW_HU:g} (tissue); expected both, air near "
            "-1000 and water near 0. "
            f"{_likely(low, high)}"
        )


def _summary(volume: Volume) -> tuple[float, float, tuple[float, ...]]:
    """Return the lowest and the highest value, and the fractions of padding, up to air and up to tissue."""
    limits = (np.nextafter(np.float32(PADDING_HU), np.float32(0)), AIR_BELOW_HU, TISSUE_BELOW_HU)
    counts, ends = [0] * len(limits), []
    for of_slice in volume.array:  # each is in the processor's cache after the first pass
        ends += [of_slice.min(), of_slice.max()]
        for at, limit in enumerate(limits):
            counts[at] += int(np.count_nonzero(of_slice < limit))
    return float(np.min(ends)), float(np.max(ends)), tuple(count / volume.array.size for count in counts)


def _likely(low: float, high: float) -> str:
    if low >= 0 and high <= 255 and high > 100:
        return "It looks like an 8-bit picture: export the CT itself, not a viewer's image."
    if low >= 0 and 1000 < high < 8192:
        return "It looks like stored values without RescaleIntercept, or an MR: export the CT as HU."
    if low >= 0:
        return "It looks like a PET or an MR: use the CT of the study."
    return "It looks like a normalised or already windowed image: export the CT as HU."
