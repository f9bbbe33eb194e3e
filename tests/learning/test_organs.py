"""The baseline `organ_median` of a model card: fitted on training patients that have organs, absent without any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib.learning.checkpoint import read_card, save_checkpoint
from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import ModelCard
from lib.learning.organs import fit_prepared_organs
from lib.learning.training import train
from lib.networks.cascade import Cascade
from lib.pairing.prepared import PreparedSet, write_index
from tests.learning.conftest import make_card, tiny_recipe


def with_organs(prepared: PreparedSet, *patients: str) -> PreparedSet:
    """Store the hot disc, of 4 SUV, as `gland` and the rest of the body, of 1 SUV, as `muscle`."""
    pairs = []
    for pair in prepared.pairs:
        if pair.patient_id in patients:
            arrays = prepared.arrays(pair)
            labels = np.where(arrays.suv_bw() > 2, 1, 2).astype(np.uint16) * arrays.body()
            np.save(prepared.root / "pairs" / pair.id / "organs.npy", labels)
            pair = replace(pair, organs=("gland", "muscle"), organs_source="made on the spot")
        pairs.append(pair)
    write_index(prepared.root, prepared.preparation, pairs)
    return PreparedSet.open(prepared.root)


def test_a_trained_card_has_the_medians_of_its_training_patients(prepared: PreparedSet, tmp_path: Path) -> None:
    recipe = tiny_recipe("epochs=1", "stages=1")
    sides = split_pairs(prepared, recipe.split)
    (one, *_), (other, *_) = ([pair.patient_id for pair, _ in side] for side in (sides.train, sides.validation))
    labelled = with_organs(prepared, one, other)
    card = read_card(train(labelled, recipe, tmp_path / "run", device="cpu").model)
    assert card.organ_baseline == {
        "suv_by_organ": {"gland": pytest.approx(4, abs=0.02), "muscle": pytest.approx(1, abs=0.01)},
        "volumes_by_organ": {"gland": 1, "muscle": 1},  # not the validation patient
    }
    assert "organ_baseline" not in card.for_clients()


def test_there_is_no_baseline_without_organs(prepared: PreparedSet) -> None:
    assert fit_prepared_organs(prepared, split_pairs(prepared, tiny_recipe().split).train) is None


def test_cards_of_earlier_versions_have_none(tmp_path: Path) -> None:
    card = make_card()
    text = card.to_json()
    assert '"organ_baseline": null' in text
    assert ModelCard.from_json(text.replace('"organ_baseline": null, ', "")).organ_baseline is None
    path = save_checkpoint(tmp_path / "model.safetensors", Cascade(card.network), card)
    assert read_card(path) == card
