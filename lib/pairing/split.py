"""Split patients into training, validation and test sides by a stable hash, independent of other patients."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

from lib.errors import RecipeError

SplitUnit = Literal["patient", "slice"]


class Side(StrEnum):
    """What a model uses a patient for: to fit its weights, to select the best ones, to test it, or for nothing."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    OUT_OF_FOLD = "out_of_fold"  # trained on by some networks of an ensemble, judged by the one that was not
    UNSEEN = "unseen"  # not in the model's data set

    @property
    def shaped_weights(self) -> bool:
        """Whether the weights were fitted to this side or selected on it, which makes its metrics optimistic."""
        return self in (Side.TRAIN, Side.VALIDATION)


SPLIT_SIDES = (Side.TRAIN, Side.VALIDATION, Side.TEST)  # the sides that a split assigns


@dataclass(frozen=True)
class Split:
    """How pairs are divided.

    Attributes:
        unit: `patient` keeps all slices of a patient on one side. `slice`, as in the paper, puts neighbouring slices of
            a patient on both sides, which makes the test metrics optimistic.
        validation: Fraction of patients for selecting the best weights, 0 to 1.
        test: Fraction of patients that are used for testing only, 0 to 1.
        salt: Text that is hashed with the patient's ID; each salt gives another split.
        offset: Where in the range of hashes the test side begins, 0 to 1: `test = 0.25` with offsets 0, 0.25, 0.5 and
            0.75 gives the four folds of a cross-validation.
    """

    unit: SplitUnit = "patient"
    validation: float = 0.1
    test: float = 0.2
    salt: str = "ct2pet"
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.unit not in get_args(SplitUnit):
            raise RecipeError(f"split.unit must be one of {', '.join(get_args(SplitUnit))}, found {self.unit!r}")
        if not (0 <= self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise RecipeError(
                "split.validation and split.test must be fractions with a sum below 1, "
                f"found {self.validation} and {self.test}"
            )
        if not 0 <= self.offset < 1:
            raise RecipeError(f"split.offset must be at least 0 and below 1, found {self.offset}")

    def side_of_patient(self, patient_id: str) -> Side:
        """Return the side of a patient; depends only on the patient's ID and the settings."""
        return self._side(patient_id)

    def side_of_slice(self, patient_id: str, slice_index: int) -> Side:
        """Return the side of a slice: the patient's, or its own with `unit = slice`."""
        return self._side(patient_id if self.unit == "patient" else f"{patient_id}/{slice_index}")

    def _side(self, key: str) -> Side:
        digest = hashlib.sha256(f"{self.salt}/{key}".encode("utf-8", "surrogatepass")).digest()
        position = (int.from_bytes(digest[:8], "big") / 2**64 - self.offset) % 1
        # test first: a larger validation fraction then never moves a patient out of test
        if position < self.test:
            return Side.TEST
        if position < self.test + self.validation:
            return Side.VALIDATION
        return Side.TRAIN
