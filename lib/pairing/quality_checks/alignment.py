"""Estimate the misalignment of a PET and its CT in mm: of the body along each axis, and of the diaphragm along z.

The same frame of reference in the headers means that the couch did not move; the patient may have. A leg turns, and a
CT in inspiration shows the diaphragm lower than a PET, which averages minutes of breathing.

The shift of the body is the translation with the largest mutual information between the CT (4 mm pixels, blurred to the
resolution of a PET, without the couch) and the PET (uptake clipped at 3 times the body's median, or a bladder would
dominate). Its standard deviation has two parts. The first is the deviation of the same estimate on six halves of the
body: upper and lower, front and back, left and right. The second is the apparent shift if the PET shows the body 1 mm
too wide: where a leg tapers, this looks like a shift along the leg. An axis with more than 2 mm counts as not measured,
as in a cropped leg, which has hardly any structure along its length. See `docs/decisions/0026-misalignment.md`.
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

PIXEL_MM = 4.0  # about the resolution of a PET
BLUR_FWHM_MM = 6.0  # of the phantoms' PET and about that of a Discovery ST; without, z of phantoms is off by 1.8 mm
HU_LIMITS = (-1000.0, 200.0)  # bone and contrast medium are clipped: PET does not distinguish them from soft tissue
MAX_RELATIVE_UPTAKE = 3.0  # times the median of the body; higher uptake is clipped
MAX_SD_MM = 2.0  # an axis with more counts as not measured
MIN_BODY_VOXELS = 500  # of 4 x 4 x 3 mm: 25 mL; too few for a histogram below
MIN_LENGTH = 4  # voxels along each axis; ITK's smoothing needs as many
START_OFFSET_MM = 5.0  # start of the halves from the result; without structure they stay apart, and the deviation shows
OUTLINE_MM = 1.0  # difference of the body's outline in PET and CT; 1.2 fits the z of 32 real pairs best
MAX_SHIFT_MM = 60.0  # twice the expected range; beyond it the optimiser has diverged
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Shift:
    """The offset of a PET relative to its CT.

    Attributes:
        body_mm: (x, y, z) LPS: x to the left, y to the back, z to the head; None for an axis that was not measured.
        sd_mm: Standard deviation of each axis, also of one that it excludes; None without an estimate.
        diaphragm_mm: Offset of the diaphragm's dome along z, positive if the PET's is higher; None if not found.
        dome_z_mm: Lowest and highest z of the CT's dome, LPS; None if not found.
        note: Why something was not measured; empty if everything was.
    """

    body_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    sd_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    diaphragm_mm: float | None = None
    note: str = ""
    dome_z_mm: tuple[float, float] | None = None

    def exceeds(self, limit_mm: float) -> bool:
        """Return whether the measured shift of the body or the diaphragm exceeds a limit."""
        is_off = is_body_off(self.body_mm, limit_mm=limit_mm)
        return is_off or is_diaphragm_off(self.diaphragm_mm, limit_mm=limit_mm)

    def as_json(self) -> dict[str, Any]:
        """Return plain values with the keys of `pair --json`, the server and the report."""
        return {
            "shift_mm": list(self.body_mm),
            "shift_sd_mm": list(self.sd_mm),
            "diaphragm_shift_mm": self.diaphragm_mm,
            "shift_note": self.note,
            "dome_z_mm": None if self.dome_z_mm is None else list(self.dome_z_mm),
        }

    def in_words(self) -> str:
        """Return the shift as text: each axis, and the diaphragm."""
        axes = [
            f"{axis} {'not measured' if mm is None else f'{mm:+.1f} ± {sd:.1f}'}"
            for axis, mm, sd in zip(AXES, self.body_mm, self.sd_mm, strict=True)
        ]
        dome = [] if self.diaphragm_mm is None else [f"diaphragm {self.diaphragm_mm:+.1f}"]
        return ", ".join((*axes, *dome)) if any(mm is not None for mm in self.body_mm) or dome else "not measured"


def shift_from_json(values: Mapping[str, Any]) -> Shift:
    """Return the shift of `Shift.as_json`; missing values, as in files of earlier versions, were not measured."""
    unmeasured = (None, None, None)
    return Shift(
        tuple(values.get("shift_mm") or unmeasured),
        tuple(values.get("shift_sd_mm") or unmeasured),
        values.get("diaphragm_shift_mm"),
        values.get("shift_note", ""),
        tuple(values["dome_z_mm"]) if values.get("dome_z_mm") else None,
    )


def corrected(pet: Volume, shift: Shift) -> Volume:
    """Return the PET moved back by its shift, along the measured axes."""
    affine = pet.geometry.affine.copy()
    affine[:3, 3] -= [mm or 0.0 for mm in shift.body_mm]
    return replace(pet, geometry=Geometry(pet.geometry.shape, affine))


def estimate_shift(ct: Volume, pet: Volume) -> Shift:
    """Return the offset of a PET relative to its CT.

    Args:
        ct: HU, any grid and voxel order; slices up to about 5 mm apart.
        pet: SUVbw or Bq/mL, on its own grid, at the position of its header.
    """
    ct, pet = coarse(to_canonical(ct)), to_canonical(mask_unmeasured(pet))
    body = body_mask(ct)
    uptake = resample_to(pet, ct.geometry).array
    covered = body & np.isfinite(uptake)
    median = float(np.median(uptake[covered])) if covered.any() else 0.0
    too_small = min(ct.geometry.shape) < MIN_LENGTH or np.count_nonzero(covered) < MIN_BODY_VOXELS
    if too_small or median <= 0:
        return Shift(note="not measured: the PET covers too little of the body on the CT")
    fixed = _fixed(ct, body)
    matcher = Matcher(fixed, replace(pet, array=np.clip(pet.array, 0, MAX_RELATIVE_UPTAKE * median)))
    try:
        shift_mm = matcher.best_translation_mm()
        halves = [
            matcher.translation_mm(start=shift_mm + (START_OFFSET_MM if number % 2 else -START_OFFSET_MM), region=half)
            for number, half in enumerate(_halves(body))
        ]
    except RuntimeError:  # ITK: no overlap
        return Shift(note="not measured: CT and PET do not match anywhere within 30 mm")
    sd = np.sqrt(np.mean(np.square(np.asarray(halves) - shift_mm), axis=0) + np.square(_outline_error_mm(fixed)))
    if np.abs(shift_mm).max() > MAX_SHIFT_MM:
        sd = np.full(3, np.inf)
    good = sd <= MAX_SD_MM
    in_plane_mm = (float(shift_mm[0]), float(shift_mm[1]))
    dome = find_dome(ct, body, pet, in_plane_mm=in_plane_mm) if good[:2].all() else None
    return Shift(
        body_mm=_rounded(shift_mm, good),
        sd_mm=_rounded(sd, np.isfinite(sd)),
        diaphragm_mm=None if dome is None else dome.shift_mm,
        note=_note(good, sd),
        dome_z_mm=None if dome is None else (dome.lowest_mm, dome.highest_mm),
    )


def diaphragm_slices(shift: Shift, geometry: Geometry, slices: Sequence[int]) -> tuple[int, ...]:
    """Return the indices into `slices` of those that show the diaphragm in the CT or in the PET."""
    if shift.dome_z_mm is None or shift.diaphragm_mm is None:
        return ()
    low, high = shift.dome_z_mm
    low, high = low + min(0.0, shift.diaphragm_mm), high + max(0.0, shift.diaphragm_mm)
    _, rows, columns = geometry.shape
    middles = np.array([[(columns - 1) / 2, (rows - 1) / 2, k] for k in slices], dtype=np.float64)
    z = geometry.to_world(middles)[:, 2]
    return tuple(int(index) for index in np.nonzero((z >= low) & (z <= high))[0])


def coarse(ct: Volume) -> Volume:
    """Return the CT averaged to 4 mm pixels."""
    rows, columns = coarse_size(ct.geometry)
    return Volume(resample_in_plane(ct.array, rows, columns), ct.geometry.with_pixels(rows, columns), ct.unit)


def coarse_size(geometry: Geometry) -> tuple[int, int]:
    """Return rows and columns of a slice with 4 mm pixels."""
    lengths = zip(geometry.shape[1:], geometry.spacing_mm[1:], strict=True)
    rows, columns = (max(1, round(pixels * mm / PIXEL_MM)) for pixels, mm in lengths)
    return rows, columns


def _fixed(ct: Volume, body: BoolArray) -> Volume:
    """Return the fixed image: the body without the couch, at the resolution of a PET."""
    low, high = HU_LIMITS
    ct_hu = np.where(body, np.clip(ct.array, low, high), np.float32(low))
    return smoothed(replace(ct, array=ct_hu), fwhm_mm=BLUR_FWHM_MM)


def _halves(body: BoolArray) -> Iterator[BoolArray]:
    """Yield masks of the two halves of the grid along each axis, divided at the median of the body."""
    for axis, indices in enumerate(np.nonzero(body)):
        shape = [-1 if other == axis else 1 for other in range(3)]
        first = (np.arange(body.shape[axis]) <= np.median(indices)).reshape(shape)
        yield np.broadcast_to(first, body.shape)
        yield np.broadcast_to(~first, body.shape)


def _outline_error_mm(fixed: Volume) -> Vector:
    """Return the apparent shift along (x, y, z) when the outline of a volume grows by `OUTLINE_MM` on all sides.

    It is the translation t for which t . grad f is nearest, in least squares, to the growth g |grad f|.
    """
    slice_gradient, row_gradient, column_gradient = np.gradient(fixed.array, *fixed.geometry.spacing_mm)
    size = np.sqrt(slice_gradient**2 + row_gradient**2 + column_gradient**2)
    along_axes = [
        float((gradient * size).sum(dtype=np.float64) / max(np.square(gradient).sum(dtype=np.float64), 1e-9))
        for gradient in (column_gradient, row_gradient, slice_gradient)
    ]
    return np.asarray(OUTLINE_MM * np.abs(fixed.geometry.direction @ np.asarray(along_axes)))


def _note(good: NDArray[np.bool_], sd: Vector) -> str:
    unmeasured = [axis for axis, is_good in zip(AXES, good, strict=True) if not is_good]
    if not unmeasured:
        return ""
    largest = max(sd)
    reason = (
        f"known to {largest:.1f} mm, expected {MAX_SD_MM:g} mm" if np.isfinite(largest) else "no match within 60 mm"
    )
    return f"cannot be measured along {' and '.join(unmeasured)}: {reason}"


def _rounded(values: Vector, good: NDArray[np.bool_]) -> tuple[float | None, float | None, float | None]:
    x, y, z = (_tenth(float(value)) if is_good else None for value, is_good in zip(values, good, strict=True))
    return x, y, z


def _tenth(value: float) -> float:
    return round(value, 1) + 0.0  # no -0.0
