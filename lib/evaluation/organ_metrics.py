"""Organs of an evaluation: their mean SUV in real and synthetic PETs, each method's bias, and `organ_median`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lib.errors import InputError
from lib.evaluation.clinical_metrics import REAL
from lib.evaluation.slice_metrics import AlignedVolumes, predict_all_methods
from lib.learning.model_card.card import ModelCard
from lib.metrics.agreement import Interval, bootstrap_mean, finite_mean, group_by_patient
from lib.metrics.baselines import Baselines
from lib.metrics.organs import OrganBaseline, organ_means
from lib.pairing.label_maps import LabelMaps, place_organs
from lib.types import Series, finite_or_none

CSV_FILE = "organs.csv"


@dataclass(frozen=True)
class OrganUptake:
    """The mean SUV of one organ by method, `real` among them, over its measured voxels.

    Attributes:
        voxels: On the network's grid.
        volume_ml: Of these voxels.
    """

    voxels: int
    volume_ml: float
    mean_suv: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"voxels": self.voxels, "volume_ml": round(self.volume_ml, 2), "suv": finite_or_none(self.mean_suv)}


@dataclass(frozen=True)
class PairOrgans:
    """The organs of one pair, by name; `missing` states why there are none."""

    uptake: Mapping[str, OrganUptake] = field(default_factory=dict)
    missing: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"uptake": {name: of.as_json() for name, of in self.uptake.items()}, "missing": self.missing}


@dataclass(frozen=True)
class OrganBias:
    """One organ over patients.

    Attributes:
        patients: Number of patients that have the organ.
        volume_ml: Mean volume.
        real_suv: Mean SUV in the real PETs.
        suv: Mean SUV by method.
        bias: Synthetic - real mean SUV by method, with its 95 % bootstrap interval over patients.
    """

    patients: int
    volume_ml: float
    real_suv: Interval
    suv: Mapping[str, Interval]
    bias: Mapping[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        methods = {name: {"suv": self.suv[name].as_json(), "bias": self.bias[name].as_json()} for name in self.bias}
        return {
            "patients": self.patients,
            "volume_ml": round(self.volume_ml, 2),
            "real_suv": self.real_suv.as_json(),
            "methods": methods,
        }


def with_organs(
    volumes: AlignedVolumes, ct: Series, labels: LabelMaps | None, card: ModelCard, baselines: Baselines
) -> tuple[AlignedVolumes, str]:
    """Return the volumes with the CT's organs and the baseline `organ_median`, and why they have none.

    Args:
        volumes: Of the CT.
        ct: The CT.
        labels: Label maps of the evaluation; None if there are none.
        card: Of the model; without organ medians, the organs are measured and the baseline is not available.
        baselines: The card's; their `hu_median` fills what is not an organ.
    """
    if labels is None:
        return volumes, ""
    try:
        label_map = labels.read(ct, volumes.geometry)
        organs = place_organs(label_map, volumes.geometry, body=volumes.body, measured=volumes.measured)
    except InputError as error:
        return volumes, str(error)
    volumes = replace(volumes, organs=organs)
    if card.organ_baseline is None:
        return volumes, ""
    lookup = baselines.predict("hu_median", volumes.ct_hu, volumes.body)
    predicted = OrganBaseline.from_json(card.organ_baseline).predict(lookup, organs, volumes.body)
    return replace(volumes, organ_median_suv=predicted), ""


def measure_organs(volumes: AlignedVolumes, baselines: Baselines, *, missing: str = "") -> PairOrgans:
    """Return the mean SUV of each organ by method; empty without organs.

    Args:
        volumes: With organs, see `with_organs`.
        baselines: Of the model's card.
        missing: Why there are no organs.
    """
    if volumes.organs is None:
        return PairOrgans(missing=missing)
    all_suv = {REAL: volumes.real_suv, **predict_all_methods(volumes, baselines)}
    slice_mm, row_mm, column_mm = volumes.geometry.spacing_mm
    voxel_ml = slice_mm * row_mm * column_mm / 1000
    measured = organ_means(all_suv, volumes.organs, volumes.body)
    return PairOrgans({name: OrganUptake(count, count * voxel_ml, suv) for name, (count, suv) in measured.items()})


def organ_biases(pairs: Sequence[tuple[str, PairOrgans]], methods: Sequence[str]) -> dict[str, OrganBias]:
    """Return each organ over (patient, organs) pairs, sorted by name; pairs of one patient count as their mean.

    Args:
        pairs: Organs of each pair.
        methods: Methods to compare; one that a patient does not have is left out for this patient.
    """
    names = sorted({name for _, organs in pairs for name in organs.uptake})
    return {
        name: _bias([(patient, organs.uptake[name]) for patient, organs in pairs if name in organs.uptake], methods)
        for name in names
    }


def _bias(pairs: Sequence[tuple[str, OrganUptake]], methods: Sequence[str]) -> OrganBias:
    patients = list(group_by_patient(pairs).values())

    def over_patients(method: str, *, minus_real: bool = False) -> Interval:
        """Return the mean over patients of a method's SUV, or of its difference from the real one."""
        return bootstrap_mean(
            finite_mean(of.mean_suv[method] - minus_real * of.mean_suv[REAL] for of in uptakes if method in of.mean_suv)
            for uptakes in patients
        )

    available = [method for method in methods if any(method in of.mean_suv for _, of in pairs)]
    return OrganBias(
        patients=len(patients),
        volume_ml=finite_mean(finite_mean(of.volume_ml for of in uptakes) for uptakes in patients),
        real_suv=over_patients(REAL),
        suv={method: over_patients(method) for method in available},
        bias={method: over_patients(method, minus_real=True) for method in available},
    )


def write_organs(organs: Mapping[str, OrganBias], out: Path) -> None:
    """Write `organs.csv`, one line per organ and method; nothing without organs.

    Raises:
        OSError: The file cannot be written.
    """
    if not organs:
        return
    with (out / CSV_FILE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["organ", "method", "patients", "volume_ml", "real_suv", "suv", "bias_suv", "bias_low", "bias_high"]
        )
        for name, organ in organs.items():
            for method, bias in organ.bias.items():
                numbers = (organ.volume_ml, organ.real_suv.mean, organ.suv[method].mean, bias.mean, bias.low, bias.high)
                cells = ["" if number is None else number for number in _finite(numbers)]
                writer.writerow([name, method, bias.count, *cells])


def _finite(numbers: Sequence[float]) -> list[float | None]:
    return list(finite_or_none({str(place): number for place, number in enumerate(numbers)}).values())
