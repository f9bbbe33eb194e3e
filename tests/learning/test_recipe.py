"""Recipes are parsed strictly: `paper` equals the paper, and the message for an unknown key suggests a valid one."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import RecipeError
from lib.learning.recipe import Recipe, load_recipe, recipe_from_mapping, shipped_recipes
from lib.networks.cascade import Cascade, count_parameters

# Each key as the paper has it. Where the paper says nothing there is no line.
PAPER = {
    "grid.size": 256,  # "256 x 256 RGB PNG"
    "grid.pixel_mm": None,
    "grid.slices": "match",  # a pair is a CT slice and a PET slice at the same place ...
    "grid.tolerance_mm": 0.2,  # ... that differ by at most 0.2 mm
    "windows.bits": 8,  # PNG
    "network.stages": 1,  # the table has 1 to 6; --stages chooses
    "network.depth": 4,
    "network.context_slices": 1,
    "network.normalization": "none",  # convolutions, ReLU, pooling and transposed convolutions, nothing else
    "network.residual_stages": False,
    "loss.kind": "mse",  # "mean squared error only"
    "loss.region": "image",
    "loss.supervise_stages": False,
    "optimiser.kind": "adam",
    "optimiser.learning_rate": 0.001,
    "optimiser.weight_decay": 0.001,  # L2
    "optimiser.clip_norm": 0.0,
    "schedule.kind": "constant",
    "schedule.epochs": 200,
    "schedule.patience": 0,
    "schedule.max_minutes": 0.0,
    "batches.flip": False,
    "batches.rotate_degrees": 0.0,
    "batches.scale": 0.0,
    "batches.ct_shift": 0.0,
    "batches.ct_noise": 0.0,
    "split.unit": "slice",
    "split.validation": 0.0,
    "split.test": 64 / 464,
    "ema_decay": 0.0,
}


def value_of(recipe: Recipe, key: str) -> Any:
    return reduce(getattr, key.split("."), recipe)


@pytest.mark.parametrize(("key", "value"), PAPER.items(), ids=PAPER.keys())
def test_the_recipe_of_the_paper(key: str, value: object) -> None:
    assert value_of(load_recipe("paper"), key) == value


def test_the_papers_network_has_about_50_million_parameters() -> None:
    with torch.device("meta"):  # no memory: only counted
        parameters = count_parameters(Cascade(load_recipe("paper").network))
    assert 48.4e6 < parameters < 48.6e6


def test_the_default_is_quantitative() -> None:
    recipe = load_recipe()
    assert recipe == load_recipe("quantitative")
    assert (recipe.name, recipe.grid.pixel_mm, recipe.split.unit) == ("quantitative", 4.0, "patient")
    assert (recipe.windows.pet_high_suv, recipe.windows.pet_curve) == (20.0, "sqrt")


def test_both_recipes_are_shipped() -> None:
    assert shipped_recipes() == ("paper", "quantitative")


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("schedule.epochs=5", "schedule.epochs", 5),
        ("epochs=5", "schedule.epochs", 5),
        (" epochs = 5 ", "schedule.epochs", 5),
        ("stages=6", "network.stages", 6),  # and not supervise_stages or residual_stages
        ("learning_rate=1e-4", "optimiser.learning_rate", 1e-4),
        ("learning_rate=1", "optimiser.learning_rate", 1.0),  # an integer for a float setting
        ("flip=false", "batches.flip", False),
        ("loss.kind=mse", "loss.kind", "mse"),
        ('loss.kind="mse"', "loss.kind", "mse"),
        ("salt=a = b", "split.salt", "a = b"),
        ("seed=7", "seed", 7),
        ("name=mine", "name", "mine"),
        ("grid.size=64", "grid.size", 64),  # pixel_mm, its rival, goes
    ],
)
def test_a_setting_changes_one_key(setting: str, key: str, value: object) -> None:
    found = value_of(load_recipe("quantitative", settings=[setting]), key)
    assert found == value and type(found) is type(value)


def test_the_later_setting_wins() -> None:
    assert load_recipe(settings=["epochs=5", "schedule.epochs=6"]).schedule.epochs == 6


def test_setting_a_pixel_size_drops_the_number_of_pixels() -> None:
    grid = load_recipe("paper", settings=["pixel_mm=2"]).grid
    assert (grid.pixel_mm, grid.size, grid.slices) == (2.0, None, "match")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "invalid setting 'epochs': expected key=value, such as schedule.epochs=5"),
        ("=5", "expected key=value"),
        ("kind=adam", "it could be loss.kind or optimiser.kind or schedule.kind"),
        ("size=4", "it could be grid.size or batches.size"),
        ("epoch=4", "did you mean schedule.epochs?"),
        ("network.stage=4", "did you mean network.stages?"),
        ("optimizer.learning_rat=1", "did you mean optimiser.learning_rate?"),
        ("schedule=4", "did you mean"),
        ("zzz=4", "known are name, grid.pixel_mm, grid.size"),
        ("epochs=many", "schedule.epochs is int, found 'many'"),
        ("epochs=5.0", "schedule.epochs is int, found 5.0"),
        ("epochs=true", "schedule.epochs is int, found True"),
        ("epochs=", "schedule.epochs is int, found ''"),
        ("flip=1", "batches.flip is bool, found 1"),
        ("learning_rate=[1]", "optimiser.learning_rate is float, found [1]"),
        ("pixel_mm=two", "grid.pixel_mm is float or nothing, found 'two'"),
        ("salt=5", "split.salt is str, found 5"),
        ("loss.kind=huber", "loss.kind is one of mse, l1, smooth_l1, found 'huber'"),
        ("unit=study", "split.unit is one of patient, slice, found 'study'"),
        ("precision=float16", "precision is one of auto, float32, bfloat16, found 'float16'"),
        ("normalization=[1]", "network.normalization is one of none, batch, instance, group, found [1]"),
        ("stages=7", "network.stages must be 1 to 6, found 7"),
        ("context_slices=4", "network.context_slices must be odd"),
        ("epochs=0", "schedule.epochs must be above 0, found 0"),
        ("learning_rate=nan", "optimiser.learning_rate must be above 0, found nan"),
        ("learning_rate=inf", "optimiser.learning_rate must be above 0, found inf"),
        ("weight_decay=-1.0", "optimiser.weight_decay must be 0 or above, found -1.0"),
        ("patience=-1", "schedule.patience must be 0 or above, found -1"),
        ("workers=-1", "batches.workers must be 0 or above, found -1"),
        ("seed=-1", "seed must be 0 or above, found -1"),
        ("scale=1.0", "batches.scale must be at least 0 and below 1, found 1.0"),
        ("ema_decay=1", "ema_decay must be at least 0 and below 1, found 1.0"),
        ("split.test=0.95", "fractions with a sum below 1, found 0.1 and 0.95"),
        ("bits=12", "windows.bits must be 8 (image levels) or 16 (floating point), found 12"),
        ("ct_low_hu=1000", "windows.ct_low_hu 1000.0 must be below windows.ct_high_hu 1000.0"),
    ],
)
def test_an_invalid_setting_says_what_to_do(setting: str, message: str) -> None:
    with pytest.raises(RecipeError) as reported:
        load_recipe(settings=[setting])
    assert message in str(reported.value)


@pytest.mark.parametrize("name", ["papers", "", "../recipes/paper", "Paper", "missing.toml"])
def test_only_shipped_names_and_toml_files_are_recipes(name: str) -> None:
    with pytest.raises(RecipeError, match=r"unknown recipe '.*': expected paper, quantitative, or a file"):
        load_recipe(name)


def test_a_file_may_have_only_some_keys_and_gives_the_recipe_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[grid]\npixel_mm = 3.0\n[windows]\n[schedule]\nepochs = 2\n")
    recipe = load_recipe(str(path), settings=["stages=2"])
    assert (recipe.name, recipe.grid.pixel_mm, recipe.schedule.epochs, recipe.network.stages) == ("mine", 3.0, 2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs = = 5", "mine.toml: not a valid TOML file"),
        (b'name = "\xff"', "mine.toml: not a valid TOML file"),
        (b"", "recipe: missing grid, windows"),
        (b"grid = 5\n[windows]", "recipe: grid is a table of keys and values, found 5"),
        (b"[grid]\n[windows]", "grid: give either pixel_mm (millimetres) or size (pixels)"),
        (b"[grid]\nsize = 256\n[windows]\n[losses]\nkind = 'mse'", "unknown key losses; did you mean loss?"),
        (b"[grid]\nsize = 256\n[windows]\nct_lo_hu = 1", "unknown key windows.ct_lo_hu; did you mean ct_low_hu?"),
    ],
)
def test_an_invalid_file_says_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(RecipeError) as reported:
        load_recipe(str(tmp_path / "mine.toml"), settings=["tolerance_mm=0.5"] if b"grid =" in content else [])
    assert message in str(reported.value)


def test_a_recipe_is_a_table() -> None:
    with pytest.raises(RecipeError, match="recipe: expected a table of keys and values, found 5"):
        recipe_from_mapping(5)  # type: ignore[arg-type]


VARIED = {
    "network.stages": st.integers(1, 6),
    "network.context_slices": st.sampled_from([1, 3, 5]),
    "network.normalization": st.sampled_from(["none", "batch", "instance", "group"]),
    "loss.kind": st.sampled_from(["mse", "l1", "smooth_l1"]),
    "loss.background_weight": st.floats(0, 1),
    "loss.uptake_weight": st.floats(0, 20),
    "optimiser.learning_rate": st.floats(1e-300, 1e3),
    "schedule.max_minutes": st.floats(0, 1e6),
    "batches.flip": st.booleans(),
    "grid.size": st.integers(16, 4096),
    "windows.pet_curve": st.sampled_from(["linear", "sqrt"]),
    "split.salt": st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    "seed": st.integers(0, 2**62),
}
ALL_VARIED = st.sets(st.sampled_from(sorted(VARIED))).flatmap(
    lambda keys: st.fixed_dictionaries({key: VARIED[key] for key in sorted(keys)})
)


@pytest.mark.parametrize("name", shipped_recipes())
@given(settings=ALL_VARIED)
def test_to_json_and_back_is_the_same_recipe(name: str, settings: dict[str, object]) -> None:
    recipe = load_recipe(name, settings=[f"{key}={json.dumps(value)}" for key, value in settings.items()])
    assert {key: value_of(recipe, key) for key in settings} == settings
    assert recipe_from_mapping(json.loads(recipe.to_json())) == recipe
