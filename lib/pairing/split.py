"""Which side of the split a patient is on: a stable hash decides, so nobody changes side when others join."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

from lib.errors import RecipeError

SplitUnit = Literal["patient", "slice"]


class Side(StrEnum):
    """What a model uses a patient for: to fit its weights, to choose the best of them, to test it, or for nothing."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    UNSEEN = "unseen"  # no part of the model's data set

    @property
    def shaped_weights(self) -> bool:
        """Whether the weights were fitted to this side or chosen by it: metrics of its patients flatter the model."""
        return self in (Side.TRAIN, Side.VALIDATION)


SPLIT_SIDES = (Side.TRAIN, Side.VALIDATION, Side.TEST)  # what a split assigns


@dataclass(frozen=True)
class Split:
    """How pairs are divided.

    Attributes:
        unit: `patient` keeps all slices of a patient on one side. `slice` is the paper's way: neighbouring slices of
            one patient end up on both sides, so its test figures flatter.
        validation: Share that chooses the best weights, 0 to 1.
        test: Share that nothing is chosen on, 0 to 1.
        salt: Another word, another split.
        offset: Where on the circle of hashes the test side begins, 0 to 1: `test = 0.25` with offsets 0, 0.25, 0.5 and
            0.75 are the four folds of a cross-validation.
    """

    unit: SplitUnit = "patient"
    validation: float = 0.1
    test: float = 0.2
    salt: str = "ct2pet"
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.unit not in get_args(SplitUnit):
            raise RecipeError(f"split.unit is one of {', '.join(get_args(SplitUnit))}, found {self.unit!r}")
        if not (0 <= self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise RecipeError(
                "split.validation and split.test are shares whose sum is below 1, "
                f"found {self.validation} and {self.test}"
            )
        if not 0 <= self.offset < 1:
            raise RecipeError(f"split.offset is at least 0 and below 1, found {self.offset}")

    def side_of_patient(self, patient_id: str) -> Side:
        """Return the side of a patient. Depends on nothing but the patient's ID, the shares and the salt."""
        return self._side(patient_id)

    def side_of_slice(self, patient_id: str, slice_index: int) -> Side:
        """Return the side of one slice: the patient's, or under `unit = slice` its own."""
        return self._side(patient_id if self.unit == "patient" else f"{patient_id}/{slice_index}")

    def _side(self, key: str) -> Side:
        digest = hashlib.sha256(f"{self.salt}/{key}".encode("utf-8", "surrogatepass")).digest()
        place = (int.from_bytes(digest[:8], "big") / 2**64 - self.offset) % 1
        # test first: enlarging the validation share then never moves a patient out of test
        if place < self.test:
            return Side.TEST
        if place < self.test + self.validation:
            return Side.VALIDATION
        return Side.TRAIN
