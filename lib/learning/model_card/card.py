"""The model card: what a model is, what it was trained on, its metrics, its intended use and its limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from lib.errors import CheckpointError, RecipeError
from lib.learning.model_card.limits import GENERAL_LIMITS
from lib.learning.model_card.scores import Scores
from lib.learning.recipe import Recipe
from lib.mapping import from_mapping
from lib.metrics.baseline_comparison import BaselineComparison, not_judged
from lib.networks.cascade import NetworkConfig
from lib.pairing.prepared import PreparedPair
from lib.pairing.split import Side, Split

INTENDED_USE = (
    "Research on CT-to-PET synthesis. A synthetic PET is an estimate drawn from a CT; it is not a measurement of "
    "metabolism and NOT FOR DIAGNOSIS, staging, treatment planning or follow-up."
)


@dataclass(frozen=True)
class TrainingData:
    """The data a model was trained on.

    Attributes:
        patients: Hash of each training patient's ID (`patient_digest`), sorted: shows whether a patient was used
            without revealing who it was.
        pairs, slices: How many entered.
        digest: Hash over all series UIDs of both sides: equal for equal data.
        validation_patients: Hashes of the patients the best weights were chosen on.
        test_patients: Hashes of the patients set aside, on whom nothing was chosen.
        split: Hash over the split's settings and who is on which side: equal for equal sides.
        split_by_hash: Whether these settings alone decided every side; else some patients had a side from before.
        origins: Training patients by what their headers say, for `ct_scanner`, `pet_scanner`, `body_part` and `tracer`;
            under the empty text those whose headers lack it.
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


@dataclass(frozen=True)
class ModelCard:
    """The card in the header of a checkpoint; see the module docstring."""

    name: str
    created: str  # UTC, ISO 8601
    recipe: Recipe
    network: NetworkConfig
    training: TrainingData
    epoch: int  # whose weights these are
    scores: Scores | None
    baselines: Mapping[str, Any] | None  # fitted to the training patients
    versions: Mapping[str, str]
    intended_use: str = INTENDED_USE
    limits: str = GENERAL_LIMITS
    calibration: Mapping[str, Any] | None = None  # expected error of a synthetic SUV, from the validation patients

    def __post_init__(self) -> None:
        if self.network != self.recipe.network:
            raise CheckpointError(f"the card's network {self.network} is not its recipe's {self.recipe.network}")

    @cached_property
    def standing(self) -> BaselineComparison:
        """The model compared with the baselines; computed from its scores, so that it always agrees with them."""
        if self.scores is None:
            return not_judged(
                "it carries no scores, for it is unfinished, or the mean of several models, or nobody was set aside to "
                "judge it on"
            )
        clauses: dict[str, str] = {
            Side.VALIDATION: ", on whom its weights were chosen",
            Side.TEST: ", whom it has never seen" if self.recipe.split.unit == "patient" else "",
        }
        how_seen = clauses.get(self.scores.side, "")
        if self.recipe.split.unit == "slice":
            how_seen += ", from other slices of whom it has learnt"
        patients = "patient" if self.scores.patients == 1 else "patients"
        return self.scores.standing(evaluated_on=f"{self.scores.patients} {self.scores.side} {patients}{how_seen}")

    def side_of(self, patient_id: str) -> Side:
        """Return what the model used a patient for; with a split by slice, `TRAIN` if any slice was trained on."""
        digest, training = patient_digest(patient_id), self.training
        if digest in training.patients:
            return Side.TRAIN
        if digest in training.validation_patients:
            return Side.VALIDATION
        return Side.TEST if digest in training.test_patients else Side.UNSEEN

    def as_json(self) -> dict[str, Any]:
        """Return plain values; `standing` is among them for readers."""
        return {**asdict(self), "standing": self.standing.as_json()}

    def for_clients(self) -> dict[str, Any]:
        """Return plain values without the tables of baselines, patients and errors, which are long."""
        shown = {name: value for name, value in self.as_json().items() if name not in ("baselines", "calibration")}
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
            CheckpointError: Not a card of ours, or of another version of ct2pet.
        """
        try:
            card = dict(json.loads(text))
            card.pop("standing", None)  # made anew from the scores
            return from_mapping(cls, card)
        except (ValueError, TypeError, RecursionError, RecipeError) as error:
            raise CheckpointError(
                f"the model card cannot be read: {error}; the file is damaged, or was written by a newer ct2pet"
            ) from error


def patient_digest(patient_id: str) -> str:
    """Return a hash that stands for a patient in a card."""
    return hashlib.sha256(f"ct2pet patient {patient_id}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def data_digest(pairs: Iterable[PreparedPair]) -> str:
    """Return a hash over the series UIDs of pairs, whatever their order."""
    lines = sorted(f"{pair.ct_series_instance_uid} {pair.pet_series_instance_uid}" for pair in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def split_digest(split: Split, patients: Mapping[str, Iterable[str]]) -> str:
    """Return a hash over a split's settings and the digests of the patients on each side, whatever their order."""
    sides = {side: sorted(digests) for side, digests in patients.items()}
    canonical = json.dumps({**asdict(split), "patients": sides}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
