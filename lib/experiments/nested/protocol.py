"""Nested cross-validation by patient: every patient is reported once, by networks and choices that never saw them.

Folds i and j are left out together: the network trained without both judges fold j in the choice for outer fold i, and
fold i in the choice for outer fold j. When the inner folds of an outer fold have chosen, the ensemble of the networks
trained without it synthesises the PETs of its patients, as in a cross-validated training of the other patients. With k
folds, each candidate needs k (k - 1) / 2 networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.nested.choice import Choice, InnerResults, choose
from lib.experiments.nested.measure import (
    MethodMetrics,
    PatientMetrics,
    Stratum,
    measure_patients,
    measure_ratios,
    stratum_of,
)
from lib.experiments.nested.networks import first_patients, load_network, network_training
from lib.experiments.variants import Variant
from lib.files import write_text
from lib.learning.cross_validation.folds import assign_folds
from lib.learning.cross_validation.out_of_fold import all_slices
from lib.learning.cross_validation.shrinkage import WeightRatios, ensemble_weight
from lib.learning.cross_validation.training import SEED_STEP
from lib.learning.member_processes import MemberTraining, plan_processes, train_members
from lib.learning.model_card.card import data_digest
from lib.learning.recipe import Recipe
from lib.learning.validation import fit_prepared_baselines
from lib.metrics.baselines import Baselines
from lib.networks.cascade import Cascade, forward_flops
from lib.networks.ensemble import combine
from lib.networks.precision import choose_device
from lib.pairing.prepared import Preparation, PreparedSet
from lib.types import Progress, no_progress

STUDIES_FILE = "studies.sha256"
FOLDS_FILE = "folds.json"
OUTER_FOLDS = 5
REFERENCE_PIXELS = 256  # rows and columns, for FLOPs


@dataclass(frozen=True)
class Candidate:
    """A recipe that competes with others.

    Attributes:
        variant: Its name, and what it changes.
        recipe: The complete recipe.
    """

    variant: Variant
    recipe: Recipe

    @property
    def name(self) -> str:
        """The unique name."""
        return self.variant.name

    def gflop(self, networks: int) -> float:
        """Return the floating-point operations of one 256 x 256 slice with an ensemble of `networks`, in 10^9."""
        passes = networks * (2 if self.recipe.synthesis.flips else 1)
        return passes * forward_flops(self.recipe.network, rows=REFERENCE_PIXELS, columns=REFERENCE_PIXELS) / 1e9


@dataclass(frozen=True)
class NestedResult:
    """The result of a nested cross-validation.

    Attributes:
        candidates: In the given order.
        fold_of: Outer fold of each patient.
        strata: Stratum of each patient.
        choices: One for each outer fold.
        by_candidate: Metrics by candidate and patient, each patient measured once, out of fold.
    """

    candidates: tuple[Candidate, ...]
    fold_of: dict[str, int]
    strata: dict[str, Stratum]
    choices: tuple[Choice, ...]
    by_candidate: Mapping[str, PatientMetrics]

    @property
    def chosen(self) -> dict[str, MethodMetrics]:
        """The metrics of each patient under the candidate that the other folds chose."""
        of_fold = {choice.outer: choice.candidate for choice in self.choices}
        return {patient: self.by_candidate[of_fold[fold]][patient] for patient, fold in self.fold_of.items()}

    @property
    def networks(self) -> int:
        """The number of networks in each ensemble."""
        return len(self.choices) - 1


def run_nested(
    prepared_for: Callable[[Preparation], PreparedSet],
    candidates: Sequence[Candidate],
    out: Path,
    *,
    folds: int = OUTER_FOLDS,
    device: str = "auto",
    processes: int = 0,
    progress: Progress = no_progress,
) -> NestedResult:
    """Train every candidate, let the inner folds choose, and measure every patient out of fold.

    Interrupted work continues with the same arguments; finished networks and measurements are not repeated.

    Args:
        prepared_for: Returns the arrays of a preparation, with the same patients for each.
        candidates: Recipes to choose from, the reference first; split by patient.
        out: Output folder.
        folds: Number of outer folds, at least 3.
        device: As for training.
        processes: Networks that are trained at once; 0 for as many as there are processors or GPUs.
        progress: Called during training.

    Raises:
        RecipeError: Fewer than three folds, or a recipe that splits by slice.
        PreparedDataError: Fewer patients than folds, or `out` holds results of other studies.
    """
    if folds < 3:
        raise RecipeError(f"expected at least 3 folds, so that two remain to train and to choose on, found {folds}")
    if any(candidate.recipe.split.unit != "patient" for candidate in candidates):
        raise RecipeError("cross-validation splits by patient; set split.unit = patient")
    reference = prepared_for(candidates[0].recipe.preparation)
    fold_of = _begin(reference, out, folds)
    runs = [
        _CandidateRun(candidate, prepared_for(candidate.recipe.preparation), fold_of, out, device=device)
        for candidate in candidates
    ]
    pairs_of_folds = list(combinations(range(folds), 2))
    trainings = [run.training(pair, seed_step=step) for run in runs for step, pair in enumerate(pairs_of_folds)]
    train_members(
        trainings, plan=plan_processes(device, trainings=len(trainings), processes=processes), progress=progress
    )
    for run in runs:
        run.load_networks(device)
    choices = tuple(_choice(outer, folds, fold_of, runs, out) for outer in range(folds))
    by_candidate = {run.candidate.name: run.measure_outer(choices) for run in runs}
    strata = {patient: stratum_of(reference, patient) for patient in fold_of}
    return NestedResult(tuple(candidates), fold_of, strata, choices, by_candidate)


def _begin(prepared: PreparedSet, out: Path, folds: int) -> dict[str, int]:
    path, digest = out / STUDIES_FILE, data_digest(prepared.pairs)
    if path.is_file() and path.read_text() != digest:
        raise PreparedDataError(f"{out}: holds results of other studies; choose another folder")
    fold_of = assign_folds(prepared, folds)
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, digest)
    write_text(out / FOLDS_FILE, json.dumps(fold_of, indent=1))
    return fold_of


def _choice(outer: int, folds: int, fold_of: dict[str, int], runs: Sequence[_CandidateRun], out: Path) -> Choice:
    inner = InnerResults(
        outer,
        frozenset(patient for patient, fold in fold_of.items() if fold == outer),
        {
            run.candidate.name: {
                patient: ratios
                for fold in range(folds)
                if fold != outer
                for patient, ratios in run.inner_ratios(fold, without=outer).items()
            }
            for run in runs
        },
    )
    choice = choose(inner)
    write_text(out / f"choice-{outer}.json", json.dumps(asdict(choice), indent=1))
    return choice


class _CandidateRun:
    """The networks of one candidate, and the metrics of patients who were left out of them."""

    def __init__(
        self, candidate: Candidate, prepared: PreparedSet, fold_of: dict[str, int], out: Path, *, device: str
    ) -> None:
        self.candidate = candidate
        self._prepared, self._fold_of, self._out, self._device = prepared, fold_of, out, device
        self._trainings: dict[frozenset[int], MemberTraining] = {}  # by the folds that were left out
        self._networks: dict[frozenset[int], Cascade] = {}
        self._fitted: dict[frozenset[int], Baselines] = {}

    def training(self, pair: tuple[int, int], *, seed_step: int) -> MemberTraining:
        """Return the training of the network without two folds."""
        recipe = self.candidate.recipe
        patients = first_patients(self._patients_without(pair), self.candidate.variant.patients)
        training = network_training(
            self._prepared.only(patients),
            replace(recipe, seed=recipe.seed + SEED_STEP * seed_step),
            self._out,
            title=f"{self.candidate.name}, without folds {pair[0] + 1} and {pair[1] + 1}",
        )
        self._trainings[frozenset(pair)] = training
        return training

    def load_networks(self, device: str) -> None:
        """Load all networks, which are trained."""
        self._networks = {
            left_out: load_network(training, device=device) for left_out, training in self._trainings.items()
        }

    def inner_ratios(self, fold: int, *, without: int) -> dict[str, WeightRatios]:
        """Return the error ratios of a fold's patients under the network trained without them and the outer fold."""
        left_out = frozenset((fold, without))
        return measure_ratios(
            self._of_fold(fold), self._networks[left_out], self.candidate.recipe, self._baselines(left_out),
            device=choose_device(self._device),
        )  # fmt: skip

    def measure_outer(self, choices: Sequence[Choice]) -> dict[str, MethodMetrics]:
        """Return the metrics of every patient under the ensemble of the networks trained without their fold.

        Args:
            choices: Of all outer folds: they have been made before any of their patients is measured.
        """
        measured: dict[str, MethodMetrics] = {}
        for choice in choices:
            weight = ensemble_weight(choice.weights[self.candidate.name])
            members = [network for left_out, network in self._networks.items() if choice.outer in left_out]
            measured |= measure_patients(
                self._of_fold(choice.outer), combine(members), self.candidate.recipe,
                self._baselines(frozenset((choice.outer,))), weight=weight, device=choose_device(self._device),
            )  # fmt: skip
        return measured

    def _of_fold(self, fold: int) -> PreparedSet:
        return self._prepared.only(patient for patient, of in self._fold_of.items() if of == fold)

    def _baselines(self, left_out: frozenset[int]) -> Baselines:
        if left_out not in self._fitted:
            training = self._prepared.only(self._patients_without(left_out))
            self._fitted[left_out] = fit_prepared_baselines(training, all_slices(training))
        return self._fitted[left_out]

    def _patients_without(self, folds: Collection[int]) -> list[str]:
        return [patient for patient, fold in self._fold_of.items() if fold not in folds]
