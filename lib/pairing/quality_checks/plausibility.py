"""Check whether a CT and a PET plausibly show the same patient in the same position, by their pixels.

Headers can agree while pixels do not: a PET stored in the wrong study, moved or mirrored by an export, or in other
units. Such a pair would degrade a model. Measured on a grid of about 4 mm:

coverage   The fraction of the CT's body that the PET measured, or of the PET's uptake inside the CT's box, whichever is
           larger: either scan may be longer.
outline    The probability that a random voxel of the CT's body has more uptake than a random voxel outside it (area
           under the ROC curve). It needs no threshold and no unit; 0.5 is chance.
mirrored   The outline of the PET mirrored left to right, front to back, or head to feet: the best of the three.
median     The median SUV in the body.

The limits were chosen on the 36 sarcoma patients of one scanner (limbs and trunk, FDG) and on deliberately corrupted
copies; see `docs/decisions/0015-newly-paired-studies.md`. Undetected are a trunk mirrored left to right in a very
symmetric patient, and two patients of similar build. Shifts are detected from about 5 cm; smaller ones are measured
(`alignment.py`) and reported, and do not make a pair implausible.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import mannwhitneyu

from lib.dicom.read.volume import read_pet
from lib.dicom.scan.open_ct import read_ct_series
from lib.errors import DicomError, ImageFileError
from lib.imaging.body import body_mask
from lib.imaging.field_of_view import mask_unmeasured
from lib.imaging.files.memory_estimate import volume_bytes
from lib.imaging.orientation import VoxelOrder, to_canonical
from lib.imaging.resample import resample_to
from lib.imaging.volume import Volume
from lib.pairing.pairs import PairedSeries
from lib.pairing.quality_checks.alignment import Shift, coarse, coarse_size, estimate_shift
from lib.types import BoolArray, FloatArray, Progress, Series, no_progress

CHECK_VERSION = 2  # increment when a limit or a metric changes: pairs are then checked again
SLICE_MM = 5.0  # about the resolution of a PET; finer CT slices are skipped
MIN_COVERAGE = 0.75  # real pairs 0.95 to 1.00; moved by 10 cm along any axis 0.18 to 0.78
MIN_OUTLINE = 0.85  # real pairs 0.934 to 0.997; of another patient 0.14 to 0.95, half of them below 0.70
MIN_MIRRORED_GAIN = 0.02  # the PET of a real pair fits at least 0.013 better as stored than mirrored
MEDIAN_SUV = (0.05, 10.0)  # real pairs 0.37 to 1.02; 7 to 10 times that, for other regions and tracers
MIN_OUTSIDE = 0.02  # of the voxels; with less air around the body the outline is not measured (real: 0.095 and more)
MAX_RELATIVE_UPTAKE = 2.0  # times the median; for coverage, higher uptake is clipped, or a bladder would dominate
COARSE_VOLUMES = 12  # float32, during the estimate of the shift; measured on a whole-body scan
AXES = {"head to feet": 0, "front to back": 1, "left to right": 2}


@dataclass(frozen=True)
class PairCheck:
    """The check of a pair; values are None if they could not be measured.

    Attributes:
        ok: Whether the pair is plausible.
        reasons: Why it is not, with values and a remedy.
        shift: Offset of the PET relative to the CT.
    """

    ok: bool
    reasons: tuple[str, ...]
    median_suv: float | None = None
    coverage: float | None = None
    outline: float | None = None
    mirrored: float | None = None
    shift: Shift = field(default_factory=Shift)


def check_pair(paired: PairedSeries, *, progress: Progress = no_progress) -> PairCheck:
    """Return whether a pair is plausible; reads the PET, and CT slices at most every 5 mm. The files must be local.

    The shift is measured for plausible pairs only. A series that cannot be read, or a PET without SUV, makes a pair
    implausible. The progress is called after every slice that was read.
    """
    try:
        ct = read_ct_series(_thinned(paired.pair.ct, paired.ct.spacing_mm), progress=progress)
        pet = paired.pet_volume(read_pet(paired.pair.pet, progress=progress))
    except (DicomError, ImageFileError) as error:
        return PairCheck(False, (f"cannot be read as CT in HU and PET in SUV: {error}",))
    check = check_volumes(ct, pet)
    shift = estimate_shift(ct, pet) if check.ok else Shift(note=f"not measured: {check.reasons[0]}")
    return replace(check, shift=shift)


def check_bytes(paired: PairedSeries) -> int:
    """Return the peak memory of `check_pair`: both volumes, and arrays on the 4 mm grid."""
    if paired.ct.geometry is None or paired.pet.geometry is None:
        return 0
    ct, pet = paired.ct.geometry, paired.pet.geometry
    slices = _thinned(paired.pair.ct, paired.ct.spacing_mm).slice_count
    ct_bytes, pet_bytes = slices * volume_bytes(ct.shape[1:]), volume_bytes(pet.shape)
    coarse_bytes = slices * volume_bytes(coarse_size(ct))
    order = VoxelOrder.of(ct)
    is_canonical = order.axes == (0, 1, 2) and not any(order.flipped)
    turned = (0 if is_canonical else ct_bytes) + ct_bytes // 2
    return ct_bytes + pet_bytes + max(turned, 2 * pet_bytes + COARSE_VOLUMES * coarse_bytes)


def check_volumes(ct: Volume, pet: Volume) -> PairCheck:
    """Return whether a CT in HU and a PET in SUVbw, at the positions of their headers, plausibly match."""
    if not pet.array.any():
        return PairCheck(False, ("the PET is 0 everywhere: not reconstructed or incomplete; send it again",))
    # canonical, so that "left to right" refers to the patient
    ct, pet = coarse(to_canonical(ct)), to_canonical(mask_unmeasured(pet))
    suv_bw = resample_to(pet, ct.geometry).array
    measured, body = np.isfinite(suv_bw), body_mask(ct)
    inside = measured & body
    if not inside.any():
        reason = "the PET covers no part of the body on the CT; check that both have the same frame of reference"
        return PairCheck(False, (reason,), coverage=0.0)
    median = float(np.median(suv_bw[inside]))
    coverage = _coverage(ct, pet, suv_bw, body, maximum=MAX_RELATIVE_UPTAKE * median)
    outside = np.count_nonzero(measured & ~body) / np.count_nonzero(measured)
    if outside < MIN_OUTSIDE:
        return _evaluated(median, coverage, None, {})
    mirrored = {
        axis: _outline(resample_to(replace(pet, array=np.flip(pet.array, index).copy()), ct.geometry).array, body)
        for axis, index in AXES.items()
    }
    return _evaluated(median, coverage, _outline(suv_bw, body), mirrored)


def _evaluated(median: float, coverage: float, outline: float | None, mirrored: dict[str, float]) -> PairCheck:
    reasons = []
    low, high = MEDIAN_SUV
    if not low <= median <= high:
        reasons.append(
            f"median SUV in the body is {median:.3g}, expected {low:g} to {high:g}: check Units, the dose in Bq and "
            "the weight in kg in the PET's header"
        )
    if coverage < MIN_COVERAGE:
        reasons.append(
            f"the two share {coverage:.0%} of the body or of the uptake, expected {MIN_COVERAGE:.0%} or more: one "
            "was moved, or shows another part of the body"
        )
    best = max(mirrored, key=lambda axis: mirrored[axis], default="")
    if outline is not None and mirrored[best] > max(outline + MIN_MIRRORED_GAIN, MIN_OUTLINE):
        reasons.append(
            f"mirrored {best}, the PET fits the CT's outline better ({mirrored[best]:.3f}) than as stored "
            f"({outline:.3f}): check whether an export mirrored it, and send it as the scanner stored it"
        )
    elif outline is not None and outline < MIN_OUTLINE:
        reasons.append(
            f"uptake does not follow the body's outline: {outline:.3f}, expected {MIN_OUTLINE} or more (1 is "
            "perfect, 0.5 chance): the PET is displaced or of another patient; compare the two in a viewer"
        )
    return PairCheck(
        not reasons,
        tuple(reasons),
        median_suv=_rounded(median),
        coverage=_rounded(coverage),
        outline=_rounded(outline),
        mirrored=_rounded(mirrored.get(best)),
    )


def _coverage(ct: Volume, pet: Volume, suv_bw: FloatArray, body: BoolArray, *, maximum: float) -> float:
    of_body = np.count_nonzero(np.isfinite(suv_bw) & body) / np.count_nonzero(body)
    in_box = _uptake_ml(suv_bw, ct, maximum=maximum)
    return float(max(of_body, min(1.0, in_box / max(_uptake_ml(pet.array, pet, maximum=maximum), 1e-9))))


def _uptake_ml(suv_bw: FloatArray, grid: Volume, *, maximum: float) -> float:
    return float(np.clip(np.nan_to_num(suv_bw), 0, maximum).sum(dtype=np.float64) * np.prod(grid.geometry.spacing_mm))


def _outline(suv_bw: FloatArray, body: BoolArray) -> float:
    """Return the fraction of (inside, outside) voxel pairs with more uptake inside; a tie counts half."""
    measured = np.isfinite(suv_bw)
    # float64: mannwhitneyu ranks in the input type, and float32 is exact up to 2**24 only
    inside, outside = (suv_bw[measured & region].astype(np.float64) for region in (body, ~body))
    if not len(inside) or not len(outside):
        return 0.0
    return float(mannwhitneyu(inside, outside, method="asymptotic").statistic / len(inside) / len(outside))


def _thinned(series: Series, spacing_mm: tuple[float, float, float] | None) -> Series:
    """Return a CT reduced to slices about `SLICE_MM` apart, at least four."""
    step = 1 if spacing_mm is None else max(1, int(SLICE_MM / spacing_mm[0]))
    return series.every(min(step, max(1, series.slice_count // 4)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
