"""Whether a CT and a PET that say they belong together look like it: where the uptake lies, and how much there is.

Headers can agree and pixels not: a PET stored under the wrong study, moved or mirrored by an export, in other units. A
pair like that teaches a model nonsense. What is measured, on a grid of about 4 mm:

coverage   The share of the CT's body that the PET measured, or of the PET's uptake that lies in the CT's box, the
           larger of the two: either scan may be longer.
outline    How often a random voxel of the CT's body has more uptake than a random voxel outside it (the area under
           the ROC curve). It needs no threshold and no unit; 0.5 is chance.
mirrored   The outline of the PET turned left to right, front to back, or head to feet: the best of the three.
median     Of SUV in the body.

The limits were chosen on the 36 sarcoma patients of one scanner (limbs and trunk, FDG) and on the same broken on
purpose; `docs/decisions/0015-newly-paired-studies.md` has the figures. What they cannot see: a trunk mirrored left to
right in a very symmetric patient, and two patients of one build. They see a shift only from about 5 cm on; smaller ones
are measured (`alignment.py`) and told, and are no reason to refuse a pair.
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
from lib.types import BoolArray, FloatArray, Series

CHECK_VERSION = 2  # raise it when a limit or a measure changes: what was checked otherwise is checked again
SLICE_MM = 5.0  # a PET resolves no more; finer slices of the CT are left out
MIN_COVERAGE = 0.75  # real pairs 0.95 to 1.00; moved by 10 cm along any axis 0.18 to 0.78
MIN_OUTLINE = 0.85  # real pairs 0.934 to 0.997; of another patient 0.14 to 0.95, half of them below 0.70
MIRRORED_BETTER_BY = 0.02  # a real pair's PET fits at least 0.013 better as it is than mirrored
MEDIAN_SUV = (0.05, 10.0)  # real pairs 0.37 to 1.02; 7 to 10 times that, for other regions and tracers
MIN_OUTSIDE = 0.02  # of the voxels: with less air around the body its outline cannot be judged (real: 0.095 and more)
HOTTEST = 2.0  # times the median: for coverage, uptake counts no more than that, or one bladder would be all of it
COARSE_VOLUMES = 12  # float32, while the shift is measured: measured on a whole body
AXES = {"head to feet": 0, "front to back": 1, "left to right": 2}


@dataclass(frozen=True)
class PairCheck:
    """What was measured of a pair, and what speaks against it; None for what could not be measured.

    Attributes:
        ok: Whether nothing speaks against it.
        reasons: What does, in words with numbers and the way out.
        shift: Where the PET lies against the CT.
    """

    ok: bool
    reasons: tuple[str, ...]
    median_suv: float | None = None
    coverage: float | None = None
    outline: float | None = None
    mirrored: float | None = None
    shift: Shift = field(default_factory=Shift)


def check_pair(paired: PairedSeries) -> PairCheck:
    """Return whether a pair is plausible; reads the PET, and of the CT one slice at most every 5 mm.

    The shift is measured of a plausible pair only: another patient's PET has none.

    A series that cannot be read, or a PET without SUV, is a reason too. The files must lie at hand.
    """
    try:
        ct = read_ct_series(_thinned(paired.pair.ct, paired.ct.spacing_mm))
        pet = paired.pet_volume(read_pet(paired.pair.pet))
    except (DicomError, ImageFileError) as error:
        return PairCheck(False, (f"cannot be read as CT in HU and PET in SUV: {error}",))
    check = check_volumes(ct, pet)
    shift = estimate_shift(ct, pet) if check.ok else Shift(note=f"not measured: {check.reasons[0]}")
    return replace(check, shift=shift)


def check_bytes(paired: PairedSeries) -> int:
    """Return the peak of memory of `check_pair`: both volumes, and what is computed on the grid of 4 mm."""
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
    """Return whether a CT in HU and a PET in SUVbw, each where its header puts it, look like one patient's."""
    if not pet.array.any():
        return PairCheck(False, ("the PET is 0 everywhere: not reconstructed, or not sent whole; send it again",))
    # canonical, so that "left to right" is the patient's whatever order the voxels are stored in
    ct, pet = coarse(to_canonical(ct)), to_canonical(mask_unmeasured(pet))
    suv_bw = resample_to(pet, ct.geometry).array
    measured, body = np.isfinite(suv_bw), body_mask(ct)
    inside = measured & body
    if not inside.any():
        words = "the PET measured no part of the body that the CT shows"
        return PairCheck(False, (f"{words}; are the two really of one frame of reference?",), coverage=0.0)
    median = float(np.median(suv_bw[inside]))
    coverage = _coverage(ct, pet, suv_bw, body, most=HOTTEST * median)
    outside = np.count_nonzero(measured & ~body) / np.count_nonzero(measured)
    if outside < MIN_OUTSIDE:
        return _judged(median, coverage, None, {})
    turned = {
        word: _outline(resample_to(replace(pet, array=np.flip(pet.array, axis).copy()), ct.geometry).array, body)
        for word, axis in AXES.items()
    }
    return _judged(median, coverage, _outline(suv_bw, body), turned)


def _judged(median: float, coverage: float, outline: float | None, turned: dict[str, float]) -> PairCheck:
    reasons = []
    low, high = MEDIAN_SUV
    if not low <= median <= high:
        reasons.append(
            f"median SUV in the body is {median:.3g}, expected {low:g} to {high:g}: look at Units, the dose in Bq and "
            "the weight in kg in the PET's header"
        )
    if coverage < MIN_COVERAGE:
        reasons.append(
            f"the two share {coverage:.0%} of the body or of the uptake, expected {MIN_COVERAGE:.0%} or more: one "
            "was moved against the other, or shows another part of the body"
        )
    best = max(turned, key=lambda word: turned[word], default="")
    if outline is not None and turned[best] > max(outline + MIRRORED_BETTER_BY, MIN_OUTLINE):
        reasons.append(
            f"turned {best} the PET fits the CT's outline better ({turned[best]:.3f}) than as it is ({outline:.3f}): "
            "look whether an export has mirrored it, and send it as the scanner stored it"
        )
    elif outline is not None and outline < MIN_OUTLINE:
        reasons.append(
            f"uptake does not follow the body's outline: {outline:.3f}, expected {MIN_OUTLINE} or more (1 is "
            "perfect, 0.5 chance): the PET lies elsewhere, or is of another patient; look at the two in one view"
        )
    mirrored = turned.get(best)
    numbers = (_rounded(one) for one in (median, coverage, outline, mirrored))
    median_suv, coverage_share, outline_share, mirrored_share = numbers
    return PairCheck(not reasons, tuple(reasons), median_suv, coverage_share, outline_share, mirrored_share)


def _coverage(ct: Volume, pet: Volume, suv_bw: FloatArray, body: BoolArray, *, most: float) -> float:
    of_body = np.count_nonzero(np.isfinite(suv_bw) & body) / np.count_nonzero(body)
    in_box = _uptake_ml(suv_bw, ct, most=most)
    return float(max(of_body, min(1.0, in_box / max(_uptake_ml(pet.array, pet, most=most), 1e-9))))


def _uptake_ml(suv_bw: FloatArray, grid: Volume, *, most: float) -> float:
    return float(np.clip(np.nan_to_num(suv_bw), 0, most).sum(dtype=np.float64) * np.prod(grid.geometry.spacing_mm))


def _outline(suv_bw: FloatArray, body: BoolArray) -> float:
    """Return the share of (voxel inside, voxel outside) of which the one inside has more uptake; a tie counts half."""
    measured = np.isfinite(suv_bw)
    # in 64 bits: mannwhitneyu ranks in the type it is given, and float32 cannot count above 2**24
    inside, outside = (suv_bw[measured & where].astype(np.float64) for where in (body, ~body))
    if not len(inside) or not len(outside):
        return 0.0
    return float(mannwhitneyu(inside, outside, method="asymptotic").statistic / len(inside) / len(outside))


def _thinned(series: Series, spacing_mm: tuple[float, float, float] | None) -> Series:
    """Return every so many slices of a CT; what is between two of them is the same patient."""
    step = 1 if spacing_mm is None else max(1, int(SLICE_MM / spacing_mm[0]))
    return series.every(min(step, max(1, series.slice_count // 4)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
