"""Metadata of an inference result: SUV statistics, metrics against the real PET, the model card, latencies."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ct2pet_app.datastore.ct_source import CTSource
from ct2pet_app.inference.request import InferOptions
from lib.dicom.read.volume import read_pet
from lib.dicom.write.pet_series import SyntheticSeries
from lib.evaluation.slice_metrics import AlignedPrediction, compare
from lib.imaging.field_of_view import mask_unmeasured
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard, patient_digest
from lib.metrics.image import Group
from lib.synthesis.uncertainty import UNCERTAINTY_DESCRIPTION, card_calibration
from lib.types import FloatArray, Progress, Series

UNIT = "SUVbw"
MEASURED: frozenset[Group] = frozenset({"ssim"})  # MS-SSIM and VIF take longer than the network


class Stopwatch:
    """Seconds of named steps."""

    def __init__(self) -> None:
        self._steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the time of the `with` block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._steps[name] = self._steps.get(name, 0.0) + time.perf_counter() - began

    def waited(self, seconds: float) -> None:
        """Count seconds spent waiting for a resource."""
        self._steps["wait"] = self._steps.get("wait", 0.0) + seconds

    def total(self) -> float:
        """Return the seconds of all steps so far."""
        return sum(self._steps.values())

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step, and of all."""
        return {name: round(seconds, 4) for name, seconds in {**self._steps, "total": self.total()}.items()}


def suv_statistics(pet: Volume) -> dict[str, float]:
    """Return the minimum, maximum, mean and 99th percentile of the SUVbw."""
    return {
        "min": float(pet.array.min()),
        "max": float(pet.array.max()),
        "mean": float(pet.array.mean(dtype=np.float64)),
        "p99": high_percentile(pet.array, 99),
    }


def high_percentile(array: FloatArray, percent: float) -> float:
    """Return `np.percentile` of a float32 volume (K, ...), bit for bit, without copying the volume.

    Only the values above the percentile are kept, so that 99 takes a hundredth of the memory; of each further slice,
    only values above all that are left out can be among them.
    """
    rank = percent / 100 * (array.size - 1)
    kept = array.size - math.floor(rank)
    highest = np.empty(0, dtype=np.float32)
    step = max(1, kept // max(1, array[0].size))
    for start in range(0, len(array), step):
        values = array[start : start + step].ravel()
        if highest.size == kept:
            values = values[values > highest.min()]
        highest = np.concatenate([highest, values])
        if highest.size > kept:
            highest = np.partition(highest, highest.size - kept)[-kept:]
    low, high = np.partition(highest, min(1, kept - 1))[[0, min(1, kept - 1)]]
    share = rank - math.floor(rank)
    difference = float(high - low)
    return float(low) + difference * share if share < 0.5 else float(high) - difference * (1 - share)


def seen_in_training(source: CTSource, card: ModelCard) -> bool | None:
    """Return whether the model was trained on this patient, which makes metrics too optimistic; None without a PET."""
    if source.pet is None:
        return None
    return patient_digest(source.pet.patient_id) in card.training.patients


def card_as_json(card: ModelCard) -> dict[str, Any]:
    """Return a model card as the plain values of JSON, for clients."""
    return dict(json.loads(json.dumps(card.for_clients())))


def uncertainty_metadata(error: Volume, file: str, card: ModelCard) -> dict[str, Any]:
    """Return the metadata of a map of expected errors: the name of its file in the response, and its meaning."""
    return {
        "file": file,
        "what": UNCERTAINTY_DESCRIPTION,
        "unit": UNIT,
        "suv": suv_statistics(error),
        "calibrated_on": card_calibration(card).volumes,
    }


def series_metadata(series: SyntheticSeries, *, stored: bool) -> dict[str, Any]:
    """Return the metadata of a synthetic DICOM series."""
    return {
        "study_instance_uid": series.study_uid,
        "series_instance_uid": series.uid,
        "instances": len(series),
        "stored": stored,
    }


def reason_without_metrics(source: CTSource, options: InferOptions) -> str:
    """Return why a synthetic PET is not compared with the real one; empty if it is."""
    if source.pet is None:
        return "there is no real PET to compare with"
    return "" if options.metrics else "not requested"


def measure(placed: AlignedPrediction, real: Series, card: ModelCard, *, progress: Progress) -> dict[str, Any]:
    """Return the metrics of the model and of the baselines against the real PET, whose files are on this machine.

    Raises:
        InputError: The real PET cannot be read or compared.
    """
    pet = mask_unmeasured(read_pet(real, progress=progress))  # no second name, which would keep it in memory
    aligned = placed.with_real(pet)
    del pet
    return compare(aligned, card, groups=MEASURED, progress=progress).as_json()


def grid_metadata(pet: Volume, slices: str) -> dict[str, Any]:
    """Return unit, shape and spacing of a synthetic PET, and the slices of the CT that it covers."""
    return {
        "unit": UNIT,
        "shape": list(pet.geometry.shape),
        "spacing_mm": list(pet.geometry.spacing_mm),
        "slices": slices,
    }


def format_slab(ct: Volume, slices: slice | None) -> str:
    """Return which slices of the CT were synthesised, as `A:B`."""
    start, stop, _ = (slices or slice(None)).indices(ct.geometry.shape[0])
    return f"{start}:{stop}"
