"""By how many millimetres a PET lies off its CT: of the body along each axis, and of the diaphragm along the body.

One frame of reference in the headers says that the couch did not move, not that the patient did not: a leg turns, a CT
in inspiration shows the diaphragm lower than the minutes of breathing that a PET sums up.

The body's shift is the translation of the largest mutual information between the CT (4 mm pixels, blurred like a PET,
the couch left out) and the PET (uptake above 3 times the body's median counts as 3 times: one bladder would be all of
it). Its standard deviation has two parts. One is how far the same lies off on six halves of the body: upper and lower,
front and back, left and right. The other is what a PET that shows the body 1 mm too wide would do: where a leg tapers,
it looks like a leg that slipped along. An axis with more than 2 mm is called not measured: a cropped leg has next to no
structure along its length. `docs/decisions/0026-misalignment.md` has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.imaging.body import body_mask
from lib.imaging.field_of_view import mask_unmeasured
from lib.imaging.geometry import Geometry
from lib.imaging.orientation import to_canonical
from lib.imaging.resample import resample_to
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.translation import Matcher, Vector, smoothed
from lib.imaging.volume import Volume
from lib.pairing.quality_checks.diaphragm import find_dome
from lib.pairing.quality_checks.misaligned_slices import is_body_off, is_diaphragm_off
from lib.types import BoolArray

PIXEL_MM = 4.0  # a PET resolves no more
BLUR_FWHM_MM = (
    6.0  # of the phantoms' PET and about that of a Discovery ST; with none the z of phantoms is off by 1.8 mm
)
HU_LIMITS = (-1000.0, 200.0)  # bone counts as contrast medium does: PET tells neither from soft tissue by density
HOTTEST = 3.0  # times the median uptake of the body
MAX_SD_MM = 2.0  # an axis with more is not measured: the accuracy that is asked for
MIN_BODY_VOXELS = 500  # 4 x 4 x 3 mm: 25 mL; fewer do not make a histogram
MIN_LENGTH = 4  # voxels along each axis; ITK blurs no fewer
ASIDE_MM = 5.0  # halves begin that far off on each axis: where nothing leads back, they stay apart, and that is told
OUTLINE_MM = 1.0  # by which PET and CT may differ on where the body ends; 1.2 explains the z of 32 real pairs best
LARGEST_MM = 60.0  # twice what is looked for; beyond it the optimiser has run away
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Shift:
    """Where a PET lies against its CT.

    Attributes:
        body_mm: (x, y, z) LPS: x to the left, y to the back, z to the head; None for an axis that was not measured.
        sd_mm: Standard deviation of each axis, also of one that is not measured by it; None where there is none.
        diaphragm_mm: Of the diaphragm's dome along z, positive where the PET's is higher; None where none is seen.
        dome_z_mm: From where to where the CT's dome lies, LPS; None likewise.
        note: Why something was not measured; empty where all was.
    """

    body_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    sd_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    diaphragm_mm: float | None = None
    note: str = ""
    dome_z_mm: tuple[float, float] | None = None

    def exceeds(self, limit_mm: float) -> bool:
        """Return whether what was measured is more than a limit, of the body or of the diaphragm."""
        is_off = is_body_off(self.body_mm, limit_mm=limit_mm)
        return is_off or is_diaphragm_off(self.diaphragm_mm, limit_mm=limit_mm)

    def as_json(self) -> dict[str, Any]:
        """Return plain values under the names that `pair --json`, the server and the report use."""
        return {
            "shift_mm": list(self.body_mm),
            "shift_sd_mm": list(self.sd_mm),
            "diaphragm_shift_mm": self.diaphragm_mm,
            "shift_note": self.note,
            "dome_z_mm": None if self.dome_z_mm is None else list(self.dome_z_mm),
        }

    def in_words(self) -> str:
        """Return the shift as a person reads it: each axis that was measured, and the diaphragm."""
        told = [
            f"{axis} {'not measured' if mm is None else f'{mm:+.1f} ± {sd:.1f}'}"
            for axis, mm, sd in zip(AXES, self.body_mm, self.sd_mm, strict=True)
        ]
        dome = [] if self.diaphragm_mm is None else [f"diaphragm {self.diaphragm_mm:+.1f}"]
        return ", ".join((*told, *dome)) if any(mm is not None for mm in self.body_mm) or dome else "not measured"


def shift_from_json(values: Mapping[str, Any]) -> Shift:
    """Return the shift that `Shift.as_json` told; one of before there were any was not measured."""
    nothing = (None, None, None)
    return Shift(
        tuple(values.get("shift_mm") or nothing),
        tuple(values.get("shift_sd_mm") or nothing),
        values.get("diaphragm_shift_mm"),
        values.get("shift_note", ""),
        tuple(values["dome_z_mm"]) if values.get("dome_z_mm") else None,
    )


def corrected(pet: Volume, shift: Shift) -> Volume:
    """Return a PET moved back onto its CT along the axes on which its shift was measured."""
    affine = pet.geometry.affine.copy()
    affine[:3, 3] -= [mm or 0.0 for mm in shift.body_mm]
    return replace(pet, geometry=Geometry(pet.geometry.shape, affine))


def estimate_shift(ct: Volume, pet: Volume) -> Shift:
    """Return where a PET lies against its CT.

    Args:
        ct: HU, any grid and voxel order; slices up to about 5 mm apart.
        pet: SUVbw or Bq/mL, on its own grid, where its header puts it.
    """
    ct, pet = coarse(to_canonical(ct)), to_canonical(mask_unmeasured(pet))
    body = body_mask(ct)
    uptake = resample_to(pet, ct.geometry).array
    seen = body & np.isfinite(uptake)
    median = float(np.median(uptake[seen])) if seen.any() else 0.0
    too_small = min(ct.geometry.shape) < MIN_LENGTH or np.count_nonzero(seen) < MIN_BODY_VOXELS
    if too_small or median <= 0:
        return Shift(note="not measured: the PET shows too little of the body that the CT shows")
    fixed = _fixed(ct, body)
    matcher = Matcher(fixed, replace(pet, array=np.clip(pet.array, 0, HOTTEST * median)))
    try:
        whole = matcher.best_translation_mm()
        halves = [
            matcher.translation_mm(start=whole + (ASIDE_MM if number % 2 else -ASIDE_MM), region=half)
            for number, half in enumerate(_halves(body))
        ]
    except RuntimeError:  # ITK: nothing left to compare
        return Shift(note="not measured: CT and PET do not match anywhere within 30 mm")
    sd = np.sqrt(np.mean(np.square(np.asarray(halves) - whole), axis=0) + np.square(_outline_error_mm(fixed)))
    if np.abs(whole).max() > LARGEST_MM:
        sd = np.full(3, np.inf)
    good = sd <= MAX_SD_MM
    in_plane_mm = (float(whole[0]), float(whole[1]))
    dome = find_dome(ct, body, pet, in_plane_mm=in_plane_mm) if good[:2].all() else None
    return Shift(
        body_mm=_rounded(whole, good),
        sd_mm=_rounded(sd, np.isfinite(sd)),
        diaphragm_mm=None if dome is None else dome.shift_mm,
        note=_note(good, sd),
        dome_z_mm=None if dome is None else (dome.lowest_mm, dome.highest_mm),
    )


def diaphragm_slices(shift: Shift, geometry: Geometry, slices: Sequence[int]) -> tuple[int, ...]:
    """Return which of some slices show the diaphragm in the CT or in the PET, counted in the order given."""
    if shift.dome_z_mm is None or shift.diaphragm_mm is None:
        return ()
    low, high = shift.dome_z_mm
    low, high = low + min(0.0, shift.diaphragm_mm), high + max(0.0, shift.diaphragm_mm)
    _, rows, columns = geometry.shape
    middles = np.array([[(columns - 1) / 2, (rows - 1) / 2, k] for k in slices], dtype=np.float64)
    z = geometry.to_world(middles)[:, 2]
    return tuple(int(place) for place in np.nonzero((z >= low) & (z <= high))[0])


def coarse(ct: Volume) -> Volume:
    """Return the CT on 4 mm pixels, each the mean of those it covers."""
    rows, columns = coarse_size(ct.geometry)
    return Volume(resample_in_plane(ct.array, rows, columns), ct.geometry.with_pixels(rows, columns), ct.unit)


def coarse_size(geometry: Geometry) -> tuple[int, int]:
    """Return rows and columns of a slice on 4 mm pixels."""
    lengths = zip(geometry.shape[1:], geometry.spacing_mm[1:], strict=True)
    rows, columns = (max(1, round(pixels * mm / PIXEL_MM)) for pixels, mm in lengths)
    return rows, columns


def _fixed(ct: Volume, body: BoolArray) -> Volume:
    """Return what the PET is compared with: the body without its couch, as sharp as a PET."""
    low, high = HU_LIMITS
    ct_hu = np.where(body, np.clip(ct.array, low, high), np.float32(low))
    return smoothed(replace(ct, array=ct_hu), fwhm_mm=BLUR_FWHM_MM)


def _halves(body: BoolArray) -> Iterator[BoolArray]:
    """Yield the grid cut in two across each axis where the body has its middle."""
    for axis, places in enumerate(np.nonzero(body)):
        shape = [-1 if other == axis else 1 for other in range(3)]
        first = (np.arange(body.shape[axis]) <= np.median(places)).reshape(shape)
        yield np.broadcast_to(first, body.shape)
        yield np.broadcast_to(~first, body.shape)


def _outline_error_mm(fixed: Volume) -> Vector:
    """Return how far along (x, y, z) a volume seems to move when its outline grows by `OUTLINE_MM` on all sides.

    In least squares a growth g |grad f| looks like the translation t for which t . grad f is nearest to it.
    """
    slice_gradient, row_gradient, column_gradient = np.gradient(fixed.array, *fixed.geometry.spacing_mm)
    size = np.sqrt(slice_gradient**2 + row_gradient**2 + column_gradient**2)
    along_axes = [
        float((gradient * size).sum(dtype=np.float64) / max(np.square(gradient).sum(dtype=np.float64), 1e-9))
        for gradient in (column_gradient, row_gradient, slice_gradient)
    ]
    return np.asarray(OUTLINE_MM * np.abs(fixed.geometry.direction @ np.asarray(along_axes)))


def _note(good: NDArray[np.bool_], sd: Vector) -> str:
    unsure = [axis for axis, is_good in zip(AXES, good, strict=True) if not is_good]
    if not unsure:
        return ""
    largest = max(sd)
    how = f"within {largest:.1f} mm, allowed {MAX_SD_MM:g} mm" if np.isfinite(largest) else "no match within 60 mm"
    return f"cannot be measured along {' and '.join(unsure)}: {how}"


def _rounded(values: Vector, good: NDArray[np.bool_]) -> tuple[float | None, float | None, float | None]:
    x, y, z = (_tenth(float(value)) if is_good else None for value, is_good in zip(values, good, strict=True))
    return x, y, z


def _tenth(value: float) -> float:
    return round(value, 1) + 0.0  # no -0.0
