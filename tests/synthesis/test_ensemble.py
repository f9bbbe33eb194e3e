"""Ensembles: the mean of the members' PETs, and the patients of all members."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.errors import CheckpointError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import save_checkpoint
from lib.learning.model_card.card import ModelCard, TrainingData
from lib.networks.cascade import Cascade
from lib.synthesis.ensemble import Ensemble, load_models
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card, tiny_recipe


def save(
    folder: Path,
    seed: int,
    *settings: str,
    patients: tuple[str, ...] = (),
    chosen: tuple[str, ...] = (),
    aside: tuple[str, ...] = (),
) -> Path:
    torch.manual_seed(seed)
    recipe = tiny_recipe(*settings)
    training = TrainingData(patients, chosen, 1, 12, "0123", test_patients=aside, split=f"split {sorted(aside)}")
    card: ModelCard = make_card(recipe=recipe, network=recipe.network, training=training)
    return save_checkpoint(folder / f"{seed}.safetensors", Cascade(recipe.network), card)


@pytest.fixture
def ct() -> Volume:
    geometry = Geometry.from_dicom(
        (5, 32, 32), first_position_mm=(0, 0, 0), orientation=(1, 0, 0, 0, 1, 0), pixel_spacing_mm=(4, 4),
        slice_spacing_mm=3,
    )  # fmt: skip
    ct_hu = np.random.default_rng(0).normal(0, 200, geometry.shape).astype(np.float32)
    return Volume(ct_hu, geometry, Unit.HU)


def test_the_pet_is_the_mean_of_the_members(ct: Volume, tmp_path: Path) -> None:
    paths = [save(tmp_path, seed, "pixel_mm=4", f"base_channels={4 * seed}") for seed in (1, 2)]
    ensemble = load_models(paths, device="cpu")
    one, other = (Synthesizer.load(path, device="cpu").apply(ct).array for path in paths)
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_allclose(ensemble.apply(ct).array, (one + other) / 2, atol=1e-6)


def test_a_slab_equals_the_same_slices_of_the_full_volume(ct: Volume, tmp_path: Path) -> None:
    ensemble = load_models([save(tmp_path, seed, "pixel_mm=4") for seed in (1, 2)], device="cpu")
    slab = ensemble.apply(ct, slice(1, 3))
    np.testing.assert_allclose(slab.array, ensemble.apply(ct).array[1:3], atol=1e-6)
    assert slab.geometry.same_grid_as(ct.geometry.slab(slice(1, 3)))


def test_the_patients_are_those_of_all_members(tmp_path: Path) -> None:
    paths = [
        save(tmp_path, 1, patients=("a", "b"), chosen=("c", "d"), aside=("e", "f")),
        save(tmp_path, 2, patients=("b", "c"), chosen=("e",), aside=("a", "d", "f")),
    ]
    ensemble = load_models(paths, device="cpu")
    assert isinstance(ensemble, Ensemble)
    assert ensemble.card.training.patients == ("a", "b", "c")
    assert ensemble.card.training.validation_patients == ("d", "e")
    assert ensemble.card.training.test_patients == ("f",)  # of every other some member has seen something
    assert ensemble.card.training.split == ""  # there is no one split
    assert ensemble.card.name == "mean of 2 models like tiny" and ensemble.card.scores is None
    assert ensemble.checksum not in {member.checksum for member in ensemble.members}


def test_members_of_one_split_keep_it(tmp_path: Path) -> None:
    card = load_models([save(tmp_path, seed, patients=("a",), aside=("f",)) for seed in (1, 2)], device="cpu").card
    assert (card.training.split, card.training.test_patients) == ("split ['f']", ("f",))
    assert "the mean of several" in card.standing.sentence


def test_one_model_is_no_ensemble(tmp_path: Path) -> None:
    assert isinstance(load_models([save(tmp_path, 1)], device="cpu"), Synthesizer)


def test_models_with_different_grids_are_rejected(tmp_path: Path) -> None:
    paths = [save(tmp_path, 1, "pixel_mm=4"), save(tmp_path, 2, "pixel_mm=5")]
    with pytest.raises(CheckpointError, match=r"model 2 of 2 \(tiny\) uses another grid or other windows"):
        load_models(paths, device="cpu")
