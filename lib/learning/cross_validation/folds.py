"""Assign patients to folds, so that every fold has as many patients and as much hot uptake as the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lib.errors import PreparedDataError
from lib.learning.model_card.card import patient_digest
from lib.pairing.prepared import PreparedSet

HOT_SUV = 2.5  # voxels above it count as hot uptake
DEFAULT_FOLDS = 10  # networks: each is trained on nine tenths of the patients, and ten make a steady ensemble
MAX_FOLDS = 32
TWO_LEFT_OUT_FROM = 8  # folds; of fewer, two would be too many of the patients


def folds_left_out(folds: int) -> int:
    """Return the number of folds that each network is trained without.

    With two, every patient is judged by the mean of two networks, which is nearer to what new patients get.
    """
    return 2 if folds >= TWO_LEFT_OUT_FROM else 1


def trains_on(network: int, fold: int, *, folds: int, left_out: int) -> bool:
    """Return whether a network is trained on the patients of a fold; see `TrainingData.judges`."""
    return (fold - network) % folds >= left_out


def assign_folds(prepared: PreparedSet, folds: int, *, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the fold of every patient, 0 to folds - 1; the same patients always get the same folds.

    Patients are taken by falling volume of hot uptake, and each joins the smallest fold, of equal ones the coldest.
    Every fold then has cold patients, and some with large hot tumours: without that, folds measure different things.

    Args:
        prepared: The arrays of all patients.
        folds: Number of folds.
        known: Fold of patients of an earlier training, by `patient_digest`: they keep it, so that a network that
            starts from that training's weights still has not seen the patients of its fold.

    Raises:
        PreparedDataError: Fewer patients than folds, or fewer than two folds.
    """
    hot_ml = _hot_volumes(prepared)
    if not 2 <= folds <= min(MAX_FOLDS, len(hot_ml)):
        raise PreparedDataError(
            f"{folds} folds for {len(hot_ml)} patients; expected 2 to {min(MAX_FOLDS, len(hot_ml))} folds, at least "
            "one patient in each: give more patients or fewer folds",
            code="too_few_patients_for_folds",
            folds=folds,
            patients=len(hot_ml),
        )
    fold_of = {
        patient: (known or {})[digest]
        for patient in hot_ml
        if 0 <= (known or {}).get(digest := patient_digest(patient), -1) < folds
    }
    sizes, burdens = np.zeros(folds, dtype=int), np.zeros(folds)
    for patient, fold in fold_of.items():
        sizes[fold] += 1
        burdens[fold] += hot_ml[patient]
    for patient in sorted(hot_ml.keys() - fold_of.keys(), key=lambda patient: (-hot_ml[patient], patient)):
        fold = min(range(folds), key=lambda fold: (sizes[fold], burdens[fold], fold))
        fold_of[patient] = fold
        sizes[fold] += 1
        burdens[fold] += hot_ml[patient]
    return dict(sorted(fold_of.items()))


def _hot_volumes(prepared: PreparedSet) -> dict[str, float]:
    """Return each patient's volume of hot uptake, mL, rounded; the largest of several pairs."""
    volumes: dict[str, float] = {}
    for pair in prepared.pairs:
        arrays = prepared.arrays(pair)
        hot = int(np.count_nonzero(arrays.body() & (arrays.suv_bw() > HOT_SUV)))
        volume_ml = round(hot * float(np.prod(pair.spacing_mm)) / 1000, 3)
        volumes[pair.patient_id] = max(volumes.get(pair.patient_id, 0.0), volume_ml)
    return volumes
