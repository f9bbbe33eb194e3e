"""Does the map of expected errors hold, on patients the model has never seen?"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.errors import CheckpointError
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.learning.model_card.card import ModelCard
from lib.metrics.agreement import Interval, bootstrap_mean
from lib.metrics.calibration import GROUPS, PREDICTOR, Trust, measure_trust
from lib.synthesis.uncertainty import card_calibration

TRUST_FILE = "uncertainty.csv"


@dataclass(frozen=True)
class OverallTrust:
    """How well expected errors hold over patients.

    Attributes:
        patients: How many.
        rank_correlation: Mean over them and confidence.
        expected_suv, observed_suv: Mean over them of each tenth of a patient's voxels, see `Trust`; empty for none.
    """

    patients: int
    rank_correlation: Interval
    expected_suv: tuple[float, ...]
    observed_suv: tuple[float, ...]

    @property
    def off_suv(self) -> float:
        """Mean distance of expected and observed error over the tenths, SUV; NaN for none."""
        return float(np.abs(np.subtract(self.expected_suv, self.observed_suv)).mean()) if self.patients else math.nan

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None for NaN, which JSON does not have."""
        return {
            "predictor": PREDICTOR,
            "patients": self.patients,
            "rank_correlation": self.rank_correlation.as_json(),
            "expected_suv": list(self.expected_suv),
            "observed_suv": list(self.observed_suv),
            "calibration_error_suv": None if math.isnan(self.off_suv) else self.off_suv,
        }


def trust_of(volumes: AlignedVolumes, card: ModelCard) -> Trust | None:
    """Return how well the errors that a card expects hold inside one body; None where it expects none."""
    try:
        calibration = card_calibration(card)
    except CheckpointError:  # the other figures are good without it; the page says that there is no map
        return None
    synthetic, real = volumes.synthetic_suv[volumes.body], volumes.real_suv[volumes.body]
    return measure_trust(calibration.expected_error_suv(synthetic), np.abs(synthetic - real))


def overall_trust(pairs: Sequence[tuple[str, Trust | None]]) -> OverallTrust | None:
    """Return the mean over patients, given each pair and whose it is; None where no map was measured.

    Pairs of one patient count as their mean.
    """
    patients: dict[str, list[Trust]] = {}
    for patient_id, trust in pairs:
        if trust is not None and trust.expected_suv:
            patients.setdefault(patient_id, []).append(trust)
    if not patients:
        return None
    ranks = [np.mean([trust.rank_correlation for trust in of]) for of in patients.values()]
    curves = np.mean(
        [np.mean([(trust.expected_suv, trust.observed_suv) for trust in of], axis=0) for of in patients.values()],
        axis=0,
    )
    expected_suv, observed_suv = (tuple(float(value) for value in curve) for curve in curves)
    return OverallTrust(len(patients), bootstrap_mean(float(rank) for rank in ranks), expected_suv, observed_suv)


def trust_sentence(overall: OverallTrust | None) -> str:
    """Return in plain words what the map is worth."""
    if overall is None:
        return (
            "This model's card carries no calibration, so no map of expected errors can be drawn: it was trained "
            "without validation patients, or before there were such maps."
        )
    expected, observed, rank = overall.expected_suv, overall.observed_suv, overall.rank_correlation.mean
    order = (
        "It expects the same of every voxel."
        if math.isnan(rank)
        else f"It puts the body's voxels in the order of their errors with a rank correlation of {rank:.2f} (0 is "
        "chance, 1 is perfect)."
    )
    return (
        f"Where the map expects the largest errors ({expected[-1]:.2f} SUV on average), the synthetic PET was off by "
        f"{observed[-1]:.2f} SUV; where it expects the smallest ({expected[0]:.2f} SUV), by {observed[0]:.2f} SUV. "
        f"{order} It knows no more than the synthetic uptake itself: it does not warn of a lesion that the CT does not "
        "show."
    )


def write_trust(rows: Sequence[tuple[str, str, Trust | None]], out: Path) -> Path | None:
    """Write `uncertainty.csv`, a line for each pair and tenth of its voxels; return its path, None for no map.

    Args:
        rows: (patient, whether the model has seen him or her, the trust) of each pair.
        out: Folder of the evaluation.
    """
    path = out / TRUST_FILE
    if not any(trust is not None for _, _, trust in rows):
        path.unlink(missing_ok=True)  # of an evaluation before this one
        return None
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "seen", "rank_correlation", "tenth", "expected_suv", "observed_suv"])
        for patient_id, seen, trust in rows:
            if trust is None or not trust.expected_suv:
                continue
            rank = "" if math.isnan(trust.rank_correlation) else trust.rank_correlation
            for tenth, both in enumerate(zip(trust.expected_suv, trust.observed_suv, strict=True), start=1):
                writer.writerow([patient_id, seen, rank, f"{tenth}/{GROUPS}", *both])
    return path
