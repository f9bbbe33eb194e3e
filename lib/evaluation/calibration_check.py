"""Does the map of expected errors hold, on patients the model has never seen?"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from lib.errors import CheckpointError, InputError
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.learning.model_card.card import ModelCard
from lib.metrics.agreement import Interval, bootstrap_mean, group_by_patient
from lib.metrics.calibration import PREDICTOR
from lib.synthesis.uncertainty import card_calibration
from lib.types import finite_or_none

TRUST_FILE = "uncertainty.csv"
GROUPS = 10


@dataclass(frozen=True)
class Trust:
    """How well an expected error holds in one volume.

    Attributes:
        rank_correlation: Spearman's, of expected and true absolute error: 1 ranks voxels as their errors do, 0 not at
            all; NaN where either is the same everywhere.
        expected_suv, observed_suv: Mean expected and mean true absolute error of each tenth of the voxels, those of the
            least expected error first; empty for fewer voxels than tenths.
    """

    rank_correlation: float
    expected_suv: tuple[float, ...]
    observed_suv: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None where not finite."""
        return asdict(self) | finite_or_none({"rank_correlation": self.rank_correlation})


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
            **finite_or_none({"calibration_error_suv": self.off_suv}),
        }


def measure_trust(expected_suv: NDArray[Any], error_suv: NDArray[Any]) -> Trust:
    """Compare expected absolute errors with the true ones of the same voxels.

    Raises:
        InputError: Shapes that differ.
    """
    expected, errors = (np.ravel(x).astype(np.float64) for x in (expected_suv, error_suv))
    if expected.shape != errors.shape:
        raise InputError(f"{expected.size} expected errors for {errors.size} true ones")
    if expected.size < GROUPS:
        return Trust(math.nan, (), ())
    tenths = np.array_split(np.argsort(expected, kind="stable"), GROUPS)
    return Trust(
        rank_correlation(expected, errors),
        tuple(float(expected[tenth].mean()) for tenth in tenths),
        tuple(float(errors[tenth].mean()) for tenth in tenths),
    )


def rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return Spearman's rank correlation of two flat arrays; NaN if one of them is constant."""
    if not first.size or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(spearmanr(first, second).statistic)


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
    patients = group_by_patient(
        (patient, trust) for patient, trust in pairs if trust is not None and trust.expected_suv
    )
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
