"""Out-of-fold predictions: the PET of every patient from the networks that were not trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib.files import atomic_file
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
        folder: Folder of the predictions, one `.npy` per pair, SUVbw float16.
        fold_of: Fold of each patient.
        baselines: By fold, fitted on the patients of the other folds.
    """

    prepared: PreparedSet
    folder: Path
    fold_of: Mapping[str, int]
    baselines: tuple[Baselines, ...]

    def predicted_suv(self, pair: PreparedPair) -> FloatArray:
        """Return the PET of a pair, SUVbw (K, R, C)."""
        return np.asarray(np.load(_path(self.folder, pair)), dtype=np.float32)

    def scores(self, *, device: torch.device) -> Scores:
        """Return all metrics of the model and the baselines over all patients."""
        return scores_of(
            Side.OUT_OF_FOLD,
            [
                (
                    patient_digest(pair.patient_id),
                    score_pair(
                        self.predicted_suv(pair), self.prepared.arrays(pair), range(pair.shape[0]),
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
            CalibrationSample(self.predicted_suv(pair), arrays_of(pair).suv_bw(), arrays_of(pair).body())
            for pair in self.prepared.pairs
        )

    def intervals(self) -> Intervals | None:
        """Return the intervals of voxels, regions and lesions."""
        return fit_intervals(
            interval_sample(self.prepared.arrays(pair), range(pair.shape[0]), self.predicted_suv(pair))
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
    """Write the PET of every patient from the mean of the networks that were not trained on them.

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
    for number, pair in enumerate(prepared.pairs):
        progress(number, len(prepared.pairs), "predicting each patient out of fold")
        network = judges[pair.patient_id]
        suv_bw = synthesize_prepared(network, prepared.arrays(pair), range(pair.shape[0]), recipe, device=device)
        with atomic_file(_path(folder, pair)) as temporary, temporary.open("wb") as file:
            np.save(file, suv_bw.astype(np.float16))
    baselines = tuple(_baselines_without(prepared, fold_of, fold) for fold in range(len(members)))
    return OutOfFold(prepared, folder, fold_of, baselines)


def _baselines_without(prepared: PreparedSet, fold_of: Mapping[str, int], fold: int) -> Baselines:
    others = prepared.only(patient for patient, of in fold_of.items() if of != fold)
    return fit_prepared_baselines(others, all_slices(others))


def all_slices(prepared: PreparedSet) -> Entries:
    """Return every pair with all of its slices."""
    return [(pair, tuple(range(pair.shape[0]))) for pair in prepared.pairs]


def _path(folder: Path, pair: PreparedPair) -> Path:
    return folder / f"{pair.id}.npy"
