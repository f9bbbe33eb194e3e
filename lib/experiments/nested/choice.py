"""The choice of a candidate for one outer fold, from the patients of the inner folds alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lib.errors import PreparedDataError
from lib.learning.cross_validation.shrinkage import WeightRatios, best_weight, mean_ratios


@dataclass(frozen=True)
class InnerResults:
    """Error ratios of every candidate on the patients of the inner folds of one outer fold.

    Attributes:
        outer: The outer fold.
        outer_patients: Its patients, of whom nothing may be known here.
        ratios: By candidate and patient, see `error_ratios`; each patient was predicted by a network that was trained
            on no patient of their own fold and of the outer one.

    Raises:
        PreparedDataError: A patient of the outer fold is among them.
    """

    outer: int
    outer_patients: frozenset[str]
    ratios: Mapping[str, Mapping[str, WeightRatios]]

    def __post_init__(self) -> None:
        for candidate, patients in self.ratios.items():
            if leaked := sorted(self.outer_patients & patients.keys()):
                raise PreparedDataError(
                    f"{candidate}: {len(leaked)} patients of outer fold {self.outer} were measured for the choice that "
                    "they are to judge; choose on other patients",
                    code="leaked_patients",
                    fold=self.outer,
                    patients=len(leaked),
                )


@dataclass(frozen=True)
class Choice:
    """What the inner folds chose for an outer fold.

    Attributes:
        outer: The outer fold.
        candidate: Name of the chosen candidate, the one with the lowest criterion; of equal ones the first.
        criterion: By candidate, the mean log error ratio at its best lookup weight; below 0 is better than the lookup.
        weights: By candidate, its best lookup weight.
        patients: Number of patients that chose.
    """

    outer: int
    candidate: str
    criterion: Mapping[str, float]
    weights: Mapping[str, float]
    patients: int


def choose(inner: InnerResults) -> Choice:
    """Return the candidate, and every candidate's lookup weight, with the lowest error on the inner patients."""
    weights = {name: best_weight(patients.values()) for name, patients in inner.ratios.items()}
    criterion = {name: mean_ratios(patients.values())[weights[name]] for name, patients in inner.ratios.items()}
    best = min(criterion, key=lambda name: criterion[name] if math.isfinite(criterion[name]) else math.inf)
    return Choice(inner.outer, best, criterion, weights, max(map(len, inner.ratios.values())))
