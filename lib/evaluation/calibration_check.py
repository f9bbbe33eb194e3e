"""Comparison of expected with observed errors, on patients that the model has not seen."""

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

CALIBRATION_FILE = "uncertainty.csv"
GROUPS = 10


@dataclass(frozen=True)
class CalibrationCheck:
    """Expected against observed absolute errors in one volume.

    Attributes:
        rank_correlation: Spearman's rank correlation of expected and observed absolute errors; NaN where either is
            constant.
        expected_suv, observed_suv: Mean expected and mean observed absolute error of each tenth of the voxels, ordered
            by expected error; empty for fewer than ten voxels.
    """

    rank_correlation: float
    expected_suv: tuple[float, ...]
    observed_suv: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None where not finite."""
        return asdict(self) | finite_or_none({"rank_correlation": self.rank_correlation})


@dataclass(frozen=True)
class MeanCalibrationCheck:
    """Expected against observed absolute errors, mean over patients.

    Attributes:
        patients: Number of patients.
        rank_correlation: Mean and confidence interval.
        expected_suv, observed_suv: Mean of each tenth of a patient's voxels, see `CalibrationCheck`.
    """

    patients: int
    rank_correlation: Interval
    expected_suv: tuple[float, ...]
    observed_suv: tuple[float, ...]

    @property
    def calibration_error_suv(self) -> float:
        """Mean absolute difference of expected and observed error over the tenths, SUV; NaN without patients."""
        return float(np.abs(np.subtract(self.expected_suv, self.observed_suv)).mean()) if self.patients else math.nan

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None for NaN, which JSON lacks."""
        return {
            "predictor": PREDICTOR,
            "patients": self.patients,
            "rank_correlation": self.rank_correlation.as_json(),
            "expected_suv": list(self.expected_suv),
            "observed_suv": list(self.observed_suv),
            **finite_or_none({"calibration_error_suv": self.calibration_error_suv}),
        }


def check_calibration(expected_suv: NDArray[Any], error_suv: NDArray[Any]) -> CalibrationCheck:
    """Compare expected with observed absolute errors of the same voxels.

    Raises:
        InputError: The shapes differ.
    """
    expected, errors = (np.ravel(x).astype(np.float64) for x in (expected_suv, error_suv))
    if expected.shape != errors.shape:
        raise InputError(f"{expected.size} expected errors for {errors.size} observed errors; expected equal shapes")
    if expected.size < GROUPS:
        return CalibrationCheck(math.nan, (), ())
    tenths = np.array_split(np.argsort(expected, kind="stable"), GROUPS)
    return CalibrationCheck(
        rank_correlation(expected, errors),
        tuple(float(expected[tenth].mean()) for tenth in tenths),
        tuple(float(errors[tenth].mean()) for tenth in tenths),
    )


def rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return Spearman's rank correlation of two flat arrays; NaN where one of them is constant."""
    if not first.size or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(spearmanr(first, second).statistic)


def check_card_calibration(volumes: AlignedVolumes, card: ModelCard) -> CalibrationCheck | None:
    """Compare the errors expected by a model card with those inside one body; None without a calibration."""
    try:
        calibration = card_calibration(card)
    except CheckpointError:  # the other metrics do not need it; the report states that there is no calibration
        return None
    synthetic, real = volumes.synthetic_suv[volumes.body], volumes.real_suv[volumes.body]
    return check_calibration(calibration.expected_error_suv(synthetic), np.abs(synthetic - real))


def mean_calibration_check(pairs: Sequence[tuple[str, CalibrationCheck | None]]) -> MeanCalibrationCheck | None:
    """Return the mean over patients of (patient, check) pairs; None without any check.

    Pairs of one patient count as their mean.
    """
    patients = group_by_patient(
        (patient, check) for patient, check in pairs if check is not None and check.expected_suv
    )
    if not patients:
        return None
    ranks = [float(np.mean([check.rank_correlation for check in checks])) for checks in patients.values()]
    curves = [
        np.mean([(check.expected_suv, check.observed_suv) for check in checks], axis=0) for checks in patients.values()
    ]
    expected_suv, observed_suv = (tuple(float(value) for value in curve) for curve in np.mean(curves, axis=0))
    return MeanCalibrationCheck(len(patients), bootstrap_mean(ranks), expected_suv, observed_suv)


def calibration_sentence(overall: MeanCalibrationCheck | None) -> str:
    """Return how well the expected errors match the observed ones, as text."""
    if overall is None:
        return (
            "The model card has no calibration, so there is no map of expected errors: the model was trained without "
            "validation patients, or by an earlier version of ct2pet."
        )
    expected, observed, rank = overall.expected_suv, overall.observed_suv, overall.rank_correlation.mean
    order = (
        "The expected error is the same in every voxel."
        if math.isnan(rank)
        else f"The rank correlation of expected and observed errors over the body's voxels is {rank:.2f} (0 is "
        "chance, 1 is perfect)."
    )
    return (
        f"In the tenth of the voxels with the largest expected error ({expected[-1]:.2f} SUV), the observed error is "
        f"{observed[-1]:.2f} SUV; in the tenth with the smallest ({expected[0]:.2f} SUV), it is {observed[0]:.2f} SUV. "
        f"{order} The expected error depends on the synthetic uptake alone: it gives no warning of a lesion that is "
        "not visible in the CT."
    )


def write_calibration_check(rows: Sequence[tuple[str, str, CalibrationCheck | None]], out: Path) -> Path | None:
    """Write `uncertainty.csv`, one line per pair and tenth of its voxels; return its path, None without any check.

    Args:
        rows: (patient, side of the split, check) of each pair.
        out: Folder of the evaluation.
    """
    path = out / CALIBRATION_FILE
    if not any(check is not None for _, _, check in rows):
        path.unlink(missing_ok=True)  # from an earlier evaluation
        return None
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "seen", "rank_correlation", "tenth", "expected_suv", "observed_suv"])
        for patient_id, seen, check in rows:
            if check is None or not check.expected_suv:
                continue
            rank = "" if math.isnan(check.rank_correlation) else check.rank_correlation
            for tenth, errors in enumerate(zip(check.expected_suv, check.observed_suv, strict=True), start=1):
                writer.writerow([patient_id, seen, rank, f"{tenth}/{GROUPS}", *errors])
    return path
