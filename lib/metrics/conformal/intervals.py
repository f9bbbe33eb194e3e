"""Prediction intervals of a model: for a voxel, for mean and maximum of a region, and for a lesion.

Calibrated by patient (`band.py`) on patients that the model was not trained on. A region is any part of the
body chosen without regard to its uptake, such as a sphere around a point of the CT. A lesion is a contoured tumour: it
was chosen because of its uptake, so it has intervals of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from lib.errors import InputError
from lib.mapping import from_mapping
from lib.metrics.conformal.band import LEVELS, Band, Observed, fit_band, level_index, required_patients
from lib.metrics.conformal.region_samples import VOLUME_EDGES_ML, sample_regions, size_class
from lib.types import BoolArray, FloatArray

Kind = Literal["voxel", "region_mean", "region_max", "lesion_mean", "lesion_max"]
KINDS: tuple[Kind, ...] = get_args(Kind)
QUANTITIES: dict[Kind, str] = {
    "voxel": "SUV of a voxel",
    "region_mean": "SUVmean of a region",
    "region_max": "SUVmax of a region",
    "lesion_mean": "SUVmean of a lesion",
    "lesion_max": "SUVmax of a lesion",
}
SHORT_QUANTITIES: dict[Kind, str] = {
    "voxel": "SUV",
    "region_mean": "SUVmean",
    "region_max": "SUVmax",
    "lesion_mean": "SUVmean of the lesion",
    "lesion_max": "SUVmax of the lesion",
}
DEFAULT_LEVEL = 0.9
SCALE = "square root of SUV"
WITHOUT = (
    "The model has no calibrated intervals: it was trained without validation patients, is the mean of several models, "
    "or is from an earlier version of ct2pet."
)
MAX_VOXELS = 2000  # sampled per volume
PATIENTS_PER_KNOT: dict[Kind, int] = {
    "voxel": 4,
    "region_mean": 6,
    "region_max": 6,
    "lesion_mean": 50,  # one value per patient: no shape is fitted to few of them
    "lesion_max": 50,
}


@dataclass(frozen=True, eq=False)
class IntervalSample:
    """Synthetic and real PET of one patient, who was not used in training, (K, R, C) each.

    Attributes:
        patient: Groups the samples of one patient; it is not kept.
        synthetic_suv, real_suv: SUVbw.
        body: The body.
        measured: Voxels that the PET scanner measured.
        tumour: Contoured tumours; all False without contours.
        spacing_mm: Between (slices, rows, columns).
    """

    patient: str
    synthetic_suv: FloatArray
    real_suv: FloatArray
    body: BoolArray
    measured: BoolArray
    tumour: BoolArray
    spacing_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        shapes = {x.shape for x in (self.synthetic_suv, self.real_suv, self.body, self.measured, self.tumour)}
        if len(shapes) > 1 or self.body.ndim != 3:
            raise InputError(f"PETs, body, measured voxels and tumour must have one shape (K, R, C), found {shapes}")


@dataclass(frozen=True)
class PredictionInterval:
    """The interval of one predicted value.

    Attributes:
        low, high: Its ends, SUVbw; None where there is none.
        level: Probability that it holds the real value, for a new patient of the same population.
        patients: Number of patients that it was calibrated on.
        sentence: The interval, or why there is none, for readers.
    """

    low: float | None
    high: float | None
    level: float
    patients: int
    sentence: str


@dataclass(frozen=True)
class Intervals:
    """The calibrated intervals of a model.

    Attributes:
        patients: Number of patients that they were calibrated on.
        bands: By kind; of a region one for each size class; a kind without observations has none.
    """

    patients: int
    bands: Mapping[Kind, tuple[Band, ...]]

    def voxel_limits(self, synthetic_suv: FloatArray, level: float = DEFAULT_LEVEL) -> tuple[FloatArray, FloatArray]:
        """Return the ends of the interval of each voxel, SUVbw, in the shape of `synthetic_suv`.

        Raises:
            InputError: The level is unknown, or the patients are too few.
        """
        bands = self.bands["voxel"]
        limits = bands[0].limits(synthetic_suv, level) if bands else None
        if limits is None:
            raise InputError(too_few_patients("voxel", level, bands[0].patients if bands else 0))
        return limits

    def interval(
        self, kind: Kind, synthetic_suv: float, *, volume_ml: float | None = None, level: float = DEFAULT_LEVEL
    ) -> PredictionInterval:
        """Return the interval of one predicted value.

        Args:
            kind: What was predicted.
            synthetic_suv: The predicted value, SUVbw.
            volume_ml: Of a region.
            level: One of `LEVELS`.

        Raises:
            InputError: Another level, or a region without a volume.
        """
        index = level_index(level)
        bands = self.bands[kind]
        if kind.startswith("region"):
            if volume_ml is None:
                raise InputError("the interval of a region depends on its volume; give the volume in mL")
            bands = tuple(band for band in bands if _holds(band, volume_ml))
            if size_class(volume_ml) is None:
                low, high = VOLUME_EDGES_ML[0], VOLUME_EDGES_ML[-1]
                sentence = f"No interval: the region has {volume_ml:.3g} mL, calibrated are {low:g} to {high:g} mL."
                return PredictionInterval(None, None, LEVELS[index], self.patients, sentence)
        patients = bands[0].patients if bands else 0
        limits = bands[0].limits(np.array([synthetic_suv], dtype=np.float32), level) if bands else None
        if limits is None:
            return PredictionInterval(None, None, LEVELS[index], patients, too_few_patients(kind, level, patients))
        low, high = (float(end[0]) for end in limits)
        sentence = (
            f"Estimated {SHORT_QUANTITIES[kind]} {synthetic_suv:.1f} ({100 * level:g} % interval {low:.1f} to "
            f"{high:.1f}; calibrated on {patients} patients)."
        )
        return PredictionInterval(low, high, LEVELS[index], patients, sentence)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, for a model card."""
        return {
            "scale": SCALE,
            "patients": self.patients,
            "levels": list(LEVELS),
            "bands": {kind: [band.to_json() for band in bands] for kind, bands in self.bands.items()},
        }

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> Intervals:
        """Return the intervals from the output of `to_json`.

        Raises:
            InputError: Keys are missing or unknown, or values are of another kind.
        """
        stored = dict(card)
        try:
            scale, levels = stored.pop("scale"), stored.pop("levels")
            intervals = from_mapping(cls, stored)
        except (KeyError, ValueError) as error:
            raise InputError(f"intervals: {error}") from error
        if (scale, levels) != (SCALE, list(LEVELS)) or set(intervals.bands) != set(KINDS):
            raise InputError(f"intervals on the {scale!r} scale; expected {SCALE!r}, levels {LEVELS} and kinds {KINDS}")
        return intervals


def fit_intervals(samples: Iterable[IntervalSample]) -> Intervals | None:
    """Return the intervals calibrated on patients not used in training, one volume at a time; None without patients.

    Args:
        samples: In any order; those of one patient count as one patient.
    """
    observed: dict[str, list[dict[tuple[Kind, int], Observed]]] = {}
    for sample in samples:
        if (sample.body & sample.measured & np.isfinite(sample.real_suv)).any():
            observed.setdefault(sample.patient, []).append(observe(sample))
    if not observed:
        return None
    patients = [_joined(parts) for _, parts in sorted(observed.items())]
    bands = {
        kind: tuple(
            fit_band(
                [own[kind, size] for own in patients if (kind, size) in own],
                patients_per_knot=PATIENTS_PER_KNOT[kind],
                volume_ml=VOLUME_EDGES_ML[size : size + 2] if kind.startswith("region") else None,  # type: ignore[arg-type]
            )
            for size in range(len(VOLUME_EDGES_ML) - 1)
            if any((kind, size) in own for own in patients)
        )
        for kind in KINDS
    }
    return Intervals(len(patients), bands)


def observe(sample: IntervalSample) -> dict[tuple[Kind, int], Observed]:
    """Return the synthetic and real values of one volume, by kind and size class (0 for voxels and lesions)."""
    digest = hashlib.sha256(sample.patient.encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))  # independent of the other patients and their order
    counted = sample.measured & np.isfinite(sample.real_suv)
    body, synthetic, real = sample.body & counted, sample.synthetic_suv, sample.real_suv
    values: dict[tuple[Kind, int], list[tuple[float, float]]] = {}
    for box, mask, volume_ml in sample_regions(body, sample.spacing_mm, rng):
        size = size_class(volume_ml)
        assert size is not None  # sampled within the size classes
        inside = synthetic[box][mask], real[box][mask]
        values.setdefault(("region_mean", size), []).append((float(inside[0].mean()), float(inside[1].mean())))
        values.setdefault(("region_max", size), []).append((float(inside[0].max()), float(inside[1].max())))
    tumour = sample.tumour & counted
    if tumour.any():
        values["lesion_mean", 0] = [(float(synthetic[tumour].mean()), float(real[tumour].mean()))]
        values["lesion_max", 0] = [(float(synthetic[tumour].max()), float(real[tumour].max()))]
    observed = {key: Observed(*np.array(pairs, dtype=np.float32).T) for key, pairs in values.items()}
    voxels = np.flatnonzero(body)
    if voxels.size:
        chosen = voxels if voxels.size <= MAX_VOXELS else rng.choice(voxels, MAX_VOXELS, replace=False)
        observed["voxel", 0] = Observed(synthetic.ravel()[chosen], real.ravel()[chosen])
    return observed


def bands_with_names(intervals: Intervals) -> list[tuple[str, Kind, int, Band]]:
    """Return each band with its name for readers, its kind and its size class."""
    rows: list[tuple[str, Kind, int, Band]] = []
    for kind in KINDS:
        for band in intervals.bands[kind]:
            size = 0 if band.volume_ml is None else size_class(band.volume_ml[0]) or 0
            suffix = "" if band.volume_ml is None else f", {band.volume_ml[0]:g} to {band.volume_ml[1]:g} mL"
            rows.append((f"{QUANTITIES[kind]}{suffix}", kind, size, band))
    return rows


def coverage_sentence(intervals: Intervals, level: float = DEFAULT_LEVEL) -> str:
    """Return which coverage intervals of a level reached on held-out patients, as text."""
    index = level_index(level)
    reached = []
    for kind in KINDS:
        shares = [100 * x for x in (band.reached[index] for band in intervals.bands[kind]) if x is not None]
        ends = sorted({f"{share:.0f}" for share in shares}, key=float)
        if ends:
            reached.append(f"{' to '.join((ends[0], ends[-1])[: len(ends)])} % for the {QUANTITIES[kind]}")
    if not reached:
        bands = intervals.bands["voxel"]
        return too_few_patients("voxel", level, bands[0].patients if bands else 0)
    return (
        f"{100 * level:g} % intervals, calibrated on {intervals.patients} patients; among patients held out of the "
        f"calibration they hold {', '.join(reached)}."
    )


def no_intervals(level: float = DEFAULT_LEVEL) -> PredictionInterval:
    """Return the answer of a model without calibrated intervals."""
    return PredictionInterval(None, None, LEVELS[level_index(level)], 0, WITHOUT)


def _joined(parts: list[dict[tuple[Kind, int], Observed]]) -> dict[tuple[Kind, int], Observed]:
    """Return the observations of one patient's volumes together."""
    keys = dict.fromkeys(key for part in parts for key in part)
    joined = {}
    for key in keys:
        found = [part[key] for part in parts if key in part]
        joined[key] = Observed(*(np.concatenate([getattr(one, name) for one in found]) for name in Observed._fields))
    return joined


def _holds(band: Band, volume_ml: float) -> bool:
    return band.volume_ml is not None and size_class(band.volume_ml[0]) == size_class(volume_ml)


def too_few_patients(kind: Kind, level: float, patients: int) -> str:
    """Return that an interval needs more patients, as text."""
    return (
        f"Too few patients: a {100 * level:g} % interval for the {QUANTITIES[kind]} needs {required_patients(level)} "
        f"patients, the model was calibrated on {patients}."
    )
