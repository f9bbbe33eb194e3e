"""What a client is told about a synthetic PET: statistics, figures beside the real one, the model's card, seconds."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ct2pet_app.infer_request import InferOptions
from ct2pet_app.uploads import CTSource
from lib.dicom.read import read_pet
from lib.errors import InputError
from lib.evaluation.compare import compare_with_real
from lib.imaging.volume import Volume
from lib.learning.card import ModelCard, patient_digest
from lib.measures.image import Group
from lib.synthesis.uncertainty import WHAT_IT_SAYS, card_calibration

logger = logging.getLogger(__name__)

UNIT = "SUVbw"
MEASURED: frozenset[Group] = frozenset({"ssim"})  # of the costlier figures: MS-SSIM and VIF outlast the network


class Stopwatch:
    """Seconds of named steps."""

    def __init__(self) -> None:
        self._steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens inside the `with`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._steps[name] = time.perf_counter() - began

    def waited(self, seconds: float) -> None:
        """Count seconds in which it was others' turn."""
        self._steps["wait"] = seconds

    def total(self) -> float:
        """Return the seconds of all steps so far."""
        return sum(self._steps.values())

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step, and of all."""
        return {name: round(seconds, 4) for name, seconds in {**self._steps, "total": self.total()}.items()}


def suv_statistics(pet: Volume) -> dict[str, float]:
    """Return the least, largest and mean SUVbw, and the one that 99 % of the voxels stay below."""
    return {
        "min": float(pet.array.min()),
        "max": float(pet.array.max()),
        "mean": float(pet.array.mean(dtype=np.float64)),
        "p99": float(np.percentile(pet.array, 99)),
    }


def seen_in_training(source: CTSource, card: ModelCard) -> bool | None:
    """Return whether the model was trained on this patient, so that its figures flatter; None for unknown patients."""
    if source.pet is None:
        return None
    return patient_digest(source.pet.patient_id) in card.training.patients


def card_as_json(card: ModelCard) -> dict[str, Any]:
    """Return a model card as the plain values of JSON, for clients."""
    return dict(json.loads(json.dumps(card.for_clients())))


def told_of_uncertainty(error: Volume, file: str, card: ModelCard) -> dict[str, Any]:
    """Return what is told of a map of expected errors: the name of its file in the answer, and what it says."""
    return {
        "file": file,
        "what": WHAT_IT_SAYS,
        "unit": UNIT,
        "suv": suv_statistics(error),
        "calibrated_on": card_calibration(card).volumes,
    }


def figures(
    pet: Volume, ct: Volume, source: CTSource, options: InferOptions, card: ModelCard
) -> tuple[dict[str, Any] | None, str]:
    """Return the figures against the real PET beside those of the baselines, or None and why there are none."""
    if source.pet is None:
        return None, "there is no real PET to compare with"
    if not options.metrics:
        return None, "not asked for"
    try:
        with source.at_hand(source.pet):
            real = read_pet(source.pet)
        return compare_with_real(pet, ct=ct, pet=real, card=card, groups=MEASURED).as_json(), ""
    except InputError as error:  # the synthetic PET is good without figures
        logger.warning("no metrics for %s: %s", source.name, error)
        return None, str(error)


def slab_in_words(ct: Volume, slices: slice | None) -> str:
    """Return which slices of the CT were synthesised, as `A:B`."""
    start, stop, _ = (slices or slice(None)).indices(ct.geometry.shape[0])
    return f"{start}:{stop}"
