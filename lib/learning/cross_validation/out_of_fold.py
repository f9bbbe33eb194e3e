"""Out-of-fold predictions: the PET of every patient from the networks that were not trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib.files import atomic_file
from lib.learning.cross_validation.shrinkage import WeightRatios, best_weight, ensemble_weight, error_ratios, shrink
from lib.learning.dataset import Entries
from lib.learning.model_card.card import TrainingData, patient_digest
from lib.learning.model_card.scores import Scores, scores_of
from lib.learning.recipe import Recipe
from lib.learning.validation import fit_prepared_baselines, interval_sample, score_pair, synthesize_prepared
from lib.metrics.baselines import Baselines
from lib.metrics.calibration import Calibration, CalibrationSample, fit_calibration
from lib.metrics.conformal.intervals import Intervals, fit_intervals
from lib.networks.cascade import Cascade
from lib.networks.ensemble import combine
from lib.pairing.prepared import PreparedPair, PreparedSet
from lib.pairing.split import Side
from lib.types import FloatArray, Progress, no_progress

FOLDER = "out-of-fold"


@dataclass(frozen=True)
class OutOfFold:
    """The predictions of a cross-validated training; they are files, since all together may not fit in memory.

    Attributes:
        prepared: Arrays of all patients.
        folder: Folder of the predictions, one `.npy` per pair, SUVbw float16 before shrinking.
        fold_of: Fold of each patient.
        baselines: By fold, fitted on the patients of the other folds.
        weight: Of the median lookup for new patients, who get the mean of all networks; from all patients' choice.
        weights: By fold, chosen on the patients of the other folds: those of the patients judged here.
    """

    prepared: PreparedSet
    folder: Path
    fold_of: Mapping[str, int]
    baselines: tuple[Baselines, ...]
    weight: float
    weights: tuple[float, ...]

    def shrunk_suv(self, pair: PreparedPair) -> FloatArray:
        """Return the PET of a pair, SUVbw (K, R, C), shrunk by what the patients of the other folds chose."""
        fold = self.fold_of[pair.patient_id]
        synthetic, ct_hu = _load(self.folder, pair), self.prepared.arrays(pair).ct_hu()
        return shrink(synthetic, ct_hu, self.baselines[fold], weight=self.weights[fold])

    def scores(self, *, device: torch.device) -> Scores:
        """Return all metrics of the model and the baselines over all patients."""
        return scores_of(
            Side.OUT_OF_FOLD,
            [
                (
                    patient_digest(pair.patient_id),
                    score_pair(
                        self.shrunk_suv(pair), self.prepared.arrays(pair), range(pair.shape[0]),
                        self.baselines[self.fold_of[pair.patient_id]], device=device,
                    ),
                )
                for pair in self.prepared.pairs
            ],
        )  # fmt: skip

    def calibration(self) -> Calibration | None:
        """Return the expected error of a synthetic SUV."""
        arrays_of = self.prepared.arrays
        return fit_calibration(
            CalibrationSample(self.shrunk_suv(pair), arrays_of(pair).suv_bw(), arrays_of(pair).body())
            for pair in self.prepared.pairs
        )

    def intervals(self) -> Intervals | None:
        """Return the intervals of voxels, regions and lesions."""
        return fit_intervals(
            interval_sample(self.prepared.arrays(pair), range(pair.shape[0]), self.shrunk_suv(pair))
            for pair in self.prepared.pairs
        )


def predict_out_of_fold(
    prepared: PreparedSet,
    recipe: Recipe,
    members: Sequence[Cascade],
    fold_of: Mapping[str, int],
    training: TrainingData,
    run: Path,
    *,
    device: torch.device,
    progress: Progress = no_progress,
) -> OutOfFold:
    """Write the PET of every patient from the networks that were not trained on them, and choose the lookup's weights.

    Args:
        members: The networks, as many as there are folds.
        training: Of the model card, with the folds.
    """
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    judges = {
        patient: combine([members[k] for k in training.judges(patient_digest(patient), networks=len(members))])
        for patient in fold_of
    }
    baselines = tuple(_baselines_without(prepared, fold_of, fold) for fold in range(len(members)))
    ratios: dict[str, WeightRatios] = {}
    for number, pair in enumerate(prepared.pairs):
        progress(number, len(prepared.pairs), "predicting each patient out of fold")
        arrays, fold = prepared.arrays(pair), fold_of[pair.patient_id]
        network = judges[pair.patient_id]
        _save(folder, pair, synthesize_prepared(network, arrays, range(pair.shape[0]), recipe, device=device))
        ratios[pair.id] = error_ratios(
            _load(folder, pair), arrays.suv_bw(), ct_hu=arrays.ct_hu(), body=arrays.body(), baselines=baselines[fold]
        )
    in_fold = {pair.id: fold_of[pair.patient_id] for pair in prepared.pairs}
    weights = tuple(
        best_weight(row for pair_id, row in ratios.items() if in_fold[pair_id] != fold) for fold in range(len(members))
    )
    return OutOfFold(prepared, folder, fold_of, baselines, ensemble_weight(best_weight(ratios.values())), weights)


def _baselines_without(prepared: PreparedSet, fold_of: Mapping[str, int], fold: int) -> Baselines:
    others = prepared.only(patient for patient, of in fold_of.items() if of != fold)
    return fit_prepared_baselines(others, all_slices(others))


def all_slices(prepared: PreparedSet) -> Entries:
    """Return every pair with all of its slices."""
    return [(pair, tuple(range(pair.shape[0]))) for pair in prepared.pairs]


def _save(folder: Path, pair: PreparedPair, suv_bw: FloatArray) -> None:
    with atomic_file(folder / f"{pair.id}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, suv_bw.astype(np.float16))


def _load(folder: Path, pair: PreparedPair) -> FloatArray:
    return np.asarray(np.load(folder / f"{pair.id}.npy"), dtype=np.float32)
