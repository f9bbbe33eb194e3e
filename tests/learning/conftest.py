"""Prepared arrays made on the spot: a CT disc whose PET follows from it, so that learning must succeed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.imaging.geometry import Geometry
from lib.learning.model_card.card import ModelCard, TrainingData, patient_digest
from lib.learning.model_card.scores import Scores
from lib.learning.recipe import Recipe, load_recipe
from lib.pairing.prepared import BODY, MEASURED, Preparation, PreparedPair, PreparedSet, write_index

# One to three patients a side under the default split (worked out by calling it; the split is stable by design)
PATIENTS = tuple(f"P{number}" for number in range(10))
SLICES, SIZE = 6, 32

TINY = (
    "pixel_mm=2.0", "stages=2", "base_channels=4", "depth=2", "context_slices=3", "epochs=2", "batches.size=4",
    "batches.patch=32", "ema_decay=0.9", "warmup_epochs=0.1", "learning_rate=0.005",
)  # fmt: skip

SCORES = Scores("validation", 2, {"model": {"ssim": 0.9, "psnr_db": None}, "zero": {"ssim": 0.8, "psnr_db": 20.0}})
BASELINES = {
    "constant_suv": 1.0,
    "hu_bin_edges": [-1024.0, 0.0, 1000.0],
    "mean_suv_by_hu": [0.5, 1.5],
    "median_suv_by_hu": [0.5, 1.0],
}


@pytest.fixture
def recipe() -> Recipe:
    return tiny_recipe()


def tiny_recipe(*settings: str) -> Recipe:
    return load_recipe("quantitative", settings=[*TINY, *settings])


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedSet:
    return make_prepared(tmp_path / "prepared", tiny_recipe().preparation)


def make_prepared(root: Path, preparation: Preparation, patients: tuple[str, ...] = PATIENTS) -> PreparedSet:
    """Write one pair a patient: tissue of two densities in a disc, uptake 4 SUV where it is dense and 1 elsewhere."""
    pairs = []
    for number, patient in enumerate(patients):
        random = np.random.default_rng(number)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        body = np.broadcast_to((rows - 16) ** 2 + (columns - 16) ** 2 < 14**2, (SLICES, SIZE, SIZE))
        centre = random.integers(10, 22, 2)
        organ = body & ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 5**2)
        ct = np.where(organ, 0.6, np.where(body, 0.5, 0.0)) + body * random.normal(0, 0.01, body.shape)
        pet = np.sqrt(np.where(organ, 4.0, np.where(body, 1.0, 0.0)) / 20)
        geometry = Geometry.from_dicom(
            (SLICES, SIZE, SIZE),
            first_position_mm=(0, 0, 0),
            orientation=(1, 0, 0, 0, 1, 0),
            pixel_spacing_mm=(2, 2),
            slice_spacing_mm=3,
        )
        pair = PreparedPair(
            id=f"pair{number}",
            patient_id=patient,
            study_instance_uid=f"1.{number}",
            ct_series_instance_uid=f"1.{number}.1",
            pet_series_instance_uid=f"1.{number}.2",
            shape=(SLICES, SIZE, SIZE),
            spacing_mm=geometry.spacing_mm,
            affine=tuple(tuple(row) for row in geometry.affine.tolist()),
            ct_slices=tuple(range(SLICES)),
            largest_offset_mm=0.0,
            source="made on the spot",
            preparation=preparation.digest(),
        )
        folder = root / "pairs" / pair.id
        folder.mkdir(parents=True)
        np.save(folder / "ct.npy", ct.astype(np.float16))
        np.save(folder / "pet.npy", pet.astype(np.float16))
        np.save(folder / "regions.npy", (body * BODY + MEASURED).astype(np.uint8))
        pairs.append(pair)
    write_index(root, preparation, pairs)
    return PreparedSet.open(root)


def make_card(**changes: Any) -> ModelCard:
    """Return the card of a tiny model that was trained on P1 and chosen on P2."""
    recipe = tiny_recipe()
    card = ModelCard(
        name="tiny",
        created="2026-01-02T03:04:05+00:00",
        recipe=recipe,
        network=recipe.network,
        training=TrainingData((patient_digest("P1"),), (patient_digest("P2"),), pairs=1, slices=6, digest="0123"),
        epoch=7,
        scores=SCORES,
        baselines=BASELINES,
        versions={"ct2pet": "0.1.0"},
    )
    return replace(card, **changes)
