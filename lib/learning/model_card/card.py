"""The model card: what a model is, what it was trained on, its metrics, its intended use and its limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from lib.errors import CheckpointError, InputError, RecipeError
from lib.learning.model_card.limits import GENERAL_LIMITS
from lib.learning.model_card.scores import Scores
from lib.learning.recipe import Recipe
from lib.mapping import from_mapping
from lib.metrics.baseline_comparison import BaselineComparison, not_judged
from lib.metrics.conformal.intervals import Intervals, coverage_sentence
from lib.networks.cascade import NetworkConfig
from lib.networks.external.settings import ExternalModel
from lib.pairing.prepared import PreparedPair
from lib.pairing.split import Side, Split

# not sent to clients
LONG_TABLES = ("baselines", "fold_baselines", "organ_baseline", "calibration", "intervals", "familiarity")
INTENDED_USE = (
    "Research on CT-to-PET synthesis. A synthetic PET is an estimate computed from a CT, not a measurement of "
    "metabolism. NOT FOR DIAGNOSIS, staging, treatment planning or follow-up."
)


@dataclass(frozen=True)
class TrainingData:
    """The data a model was trained on.

    Attributes:
        patients: Hash of each training patient's ID (`patient_digest`), sorted: shows whether a patient was used
            without revealing who it was.
        pairs, slices: Number of training pairs and slices.
        digest: Hash over the series UIDs of training and validation: equal for equal data.
        validation_patients: Hashes of the patients on which the best weights were selected.
        test_patients: Hashes of the patients used for testing only.
        split: Hash over the settings of the split and the patients on each side: equal for equal splits.
        split_by_hash: Whether the settings alone decided every side; otherwise some patients had a permanent side.
        origins: Number of training patients by value, for `ct_scanner`, `pet_scanner`, `body_part` and `tracer`; the
            empty string counts those whose headers lack it.
        folds: Of a cross-validated ensemble, the fold of each training patient by `patient_digest`; see `judges`.
            Empty for other models.
        folds_left_out: The number of folds that each network was trained without.
    """

    patients: tuple[str, ...]
    validation_patients: tuple[str, ...]
    pairs: int
    slices: int
    digest: str
    test_patients: tuple[str, ...] = ()
    split: str = ""
    split_by_hash: bool = True
    origins: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    folds: Mapping[str, int] = field(default_factory=dict)
    folds_left_out: int = 1

    def judges(self, digest: str, *, networks: int) -> tuple[int, ...]:
        """Return the networks of a cross-validated ensemble that were not trained on a patient; none for a new one.

        Network k was trained without the patients of the `folds_left_out` folds from k on, the first after the last.
        """
        if digest not in self.folds:
            return ()
        return tuple((self.folds[digest] - earlier) % networks for earlier in range(self.folds_left_out))


@dataclass(frozen=True)
class ModelCard:
    """The card in the header of a checkpoint; see the module docstring."""

    name: str
    created: str  # UTC, ISO 8601
    recipe: Recipe
    network: NetworkConfig
    training: TrainingData
    epoch: int  # of the weights
    scores: Scores | None
    baselines: Mapping[str, Any] | None  # fitted on the training patients
    versions: Mapping[str, str]
    intended_use: str = INTENDED_USE
    limits: str = GENERAL_LIMITS
    calibration: Mapping[str, Any] | None = None  # expected error, from validation or out-of-fold patients
    lookup_weight: float = 0.0  # of the median lookup in every PET, see lib/learning/cross_validation/shrinkage.py
    fold_baselines: tuple[Mapping[str, Any], ...] = ()  # by fold, fitted on the patients of the other folds
    intervals: Mapping[str, Any] | None = None  # of a voxel, region or lesion, from patients not trained on
    organ_baseline: Mapping[str, Any] | None = None  # median SUV of the training patients' organs, where segmented
    familiarity: Mapping[str, Any] | None = None  # what the training CTs have in common; see `Reference`
    external: ExternalModel | None = None  # of an imported network

    def __post_init__(self) -> None:
        if self.network != self.recipe.network:
            raise CheckpointError(f"the card's network {self.network} is not its recipe's {self.recipe.network}")

    @cached_property
    def standing(self) -> BaselineComparison:
        """Comparison of the model with the baselines, computed from its scores."""
        if self.scores is None:
            reason = (
                "the training is unfinished, the model is the mean of several, or there were no validation or test "
                "patients"
                if self.external is None
                else "the network was imported without patients to evaluate it on"
            )
            return not_judged(f"the model card has no scores: {reason}")
        clauses: dict[str, str] = {
            Side.VALIDATION: ", on whom its weights were selected",
            Side.TEST: ", not used in training" if self.recipe.split.unit == "patient" else "",
            Side.OUT_OF_FOLD: ", each judged by those networks of the ensemble that were not trained on them",
        }
        how_seen = clauses.get(self.scores.side, "")
        if not self.is_training_known:
            how_seen = ", on whom it may have been trained"
        if self.recipe.split.unit == "slice":
            how_seen += ", whose other slices were used in training"
        patients = "patient" if self.scores.patients == 1 else "patients"
        side = "" if self.scores.side == Side.OUT_OF_FOLD else f"{self.scores.side} "
        return self.scores.standing(evaluated_on=f"{self.scores.patients} {side}{patients}{how_seen}")

    @cached_property
    def interval_coverage(self) -> str:
        """Coverage that the intervals reached on held-out patients, as text; empty without valid intervals."""
        try:
            return "" if self.intervals is None else coverage_sentence(Intervals.from_json(self.intervals))
        except InputError:
            return ""

    @cached_property
    def fitted_on(self) -> frozenset[str]:
        """Hashes of the patients on whom the weights or the baselines were fitted."""
        baseline_patients = () if self.external is None else self.external.baseline_patients
        return frozenset((*self.training.patients, *baseline_patients))

    @property
    def is_training_known(self) -> bool:
        """Whether the card says what the weights were trained on; that of an imported network may not."""
        return self.external is None or bool(self.training.patients)

    @property
    def training_summary(self) -> str:
        """On how many patients the weights were trained; that of an imported network may be unknown."""
        if not self.is_training_known:
            return "unknown data (imported network)"
        return f"{len(self.training.patients)} patients"

    def side_of(self, patient_id: str) -> Side:
        """Return the side of a patient; with a split by slice, `TRAIN` if any slice was used for training."""
        digest, training = patient_digest(patient_id), self.training
        if digest in training.folds:
            return Side.OUT_OF_FOLD
        if digest in self.fitted_on:
            return Side.TRAIN
        if digest in training.validation_patients:
            return Side.VALIDATION
        return Side.TEST if digest in training.test_patients else Side.UNSEEN

    def as_json(self) -> dict[str, Any]:
        """Return plain values, with `standing` for readers."""
        return {**asdict(self), "standing": self.standing.as_json()}

    def for_clients(self) -> dict[str, Any]:
        """Return plain values without the long tables of baselines, patients, errors, intervals and training CTs."""
        shown = {name: value for name, value in self.as_json().items() if name not in LONG_TABLES}
        shown["interval_coverage"] = self.interval_coverage
        if self.scores is not None:
            shown["scores"] = {name: value for name, value in shown["scores"].items() if name != "by_patient"}
        return shown

    def to_json(self) -> str:
        """Return the card as JSON."""
        return json.dumps(self.as_json(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Return the card of JSON.

        Raises:
            CheckpointError: Not a model card, or one of a newer version of ct2pet.
        """
        try:
            card = dict(json.loads(text))
            card.pop("standing", None)  # computed from the scores
            return from_mapping(cls, card)
        except (ValueError, TypeError, RecursionError, RecipeError) as error:
            raise CheckpointError(
                f"invalid model card: {error}; the file is damaged, or was written by a newer version of ct2pet"
            ) from error


def patient_digest(patient_id: str) -> str:
    """Return the hash that identifies a patient in a model card."""
    return hashlib.sha256(f"ct2pet patient {patient_id}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def data_digest(pairs: Iterable[PreparedPair]) -> str:
    """Return a hash over the series UIDs of pairs, independent of their order."""
    lines = sorted(f"{pair.ct_series_instance_uid} {pair.pet_series_instance_uid}" for pair in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def split_digest(split: Split, patients: Mapping[str, Iterable[str]]) -> str:
    """Return a hash over a split's settings and the digests of patients on each side, independent of their order."""
    sides = {side: sorted(digests) for side, digests in patients.items()}
    canonical = json.dumps({**asdict(split), "patients": sides}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
