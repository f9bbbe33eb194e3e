"""Slices whose PET lies off its CT: left out of training beyond the recipe's limit, kept everywhere else."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest

from lib.errors import PreparedDataError, RecipeError
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.learning.aligned_slices import aligned_training
from lib.learning.dataset import PairsBySide, split_pairs
from lib.learning.recipe import load_recipe
from lib.pairing.prepared import Preparation, PreparedPair, PreparedSet
from tests.learning.conftest import SLICES

ALL = tuple(range(SLICES))


def with_shift(prepared: PreparedSet, **changes: object) -> PreparedSet:
    """Return the set with the shift of every pair changed."""
    pairs = tuple(dataclasses.replace(pair, **changes) for pair in prepared.pairs)
    return dataclasses.replace(prepared, pairs=pairs)


def sides_of(prepared: PreparedSet, **changes: object) -> PairsBySide:
    return split_pairs(with_shift(prepared, **changes), load_recipe("quantitative").split)


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"shift_mm": (10.0, 0.0, 0.0)}, ()),
        ({"shift_mm": (10.1, 0.0, 0.0)}, ALL),
        ({"shift_mm": (None, 10.1, None)}, ALL),
        ({"shift_mm": (10.1, 0.0, 0.0), "is_corrected": True}, ()),
        ({"shift_mm": (None, None, None)}, ()),
        ({"diaphragm_shift_mm": 10.0, "diaphragm_slices": (1, 2)}, ()),
        ({"diaphragm_shift_mm": -10.5, "diaphragm_slices": (1, 2)}, (1, 2)),
        # the body moved 6 mm of these, and was moved back
        (
            {"shift_mm": (0.0, 0.0, 6.0), "diaphragm_shift_mm": 12.0, "diaphragm_slices": (1, 2), "is_corrected": True},
            (),
        ),
    ],
)
def test_slices_beyond_the_limit(prepared: PreparedSet, changes: dict[str, object], left_out: tuple[int, ...]) -> None:
    pair = with_shift(prepared, **changes).pairs[0]
    assert pair.misaligned_slices(limit_mm=10.0) == left_out
    assert pair.misaligned_slices(limit_mm=0.0) == ()


def test_training_loses_them_and_says_whose(prepared: PreparedSet, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    before = sides_of(prepared, diaphragm_shift_mm=15.0, diaphragm_slices=(0, 1))
    after = aligned_training(before, max_shift_mm=10.0)
    assert [indices for _, indices in after.train] == [ALL[2:]] * len(before.train)
    assert (after.validation, after.test) == (before.validation, before.test)
    assert f"2 of {SLICES} slices are left out of training" in caplog.text and "diaphragm 15.0 mm" in caplog.text
    assert aligned_training(before, max_shift_mm=0.0) == before


def test_nobody_left_is_refused_with_the_way_out(prepared: PreparedSet) -> None:
    with pytest.raises(PreparedDataError, match=r"off its CT by more than 10 mm; .* set alignment.max_shift_mm higher"):
        aligned_training(sides_of(prepared, shift_mm=(20.0, 0.0, 0.0)), max_shift_mm=10.0)


def test_the_recipes_limit() -> None:
    assert load_recipe("quantitative").alignment.max_shift_mm == 10.0
    assert load_recipe("paper").alignment.max_shift_mm == 0.0
    with pytest.raises(RecipeError, match=r"alignment.max_shift_mm must be 0"):
        load_recipe("quantitative", settings=["alignment.max_shift_mm=-1"])


def test_a_correction_makes_other_arrays_and_none_leaves_those_of_before() -> None:
    grid, windows = Grid(pixel_mm=2.0), Windows()
    assert load_recipe("quantitative", settings=["alignment.correct=true"]).preparation.correct_shift
    assert Preparation(grid, windows, True).digest() != Preparation(grid, windows).digest()
    with pytest.raises(RecipeError, match=r"alignment.correct needs grid.slices = resample"):
        Preparation(Grid(pixel_mm=2.0, slices="match"), windows, True)


def test_an_index_of_before_there_were_shifts_is_read(prepared: PreparedSet) -> None:
    path = prepared.root / "index.json"
    index = json.loads(path.read_text())
    assert "correct_shift" not in index["preparation"]  # as it was before there was a correction
    for entry in index["pairs"]:
        for name in ("shift_mm", "shift_sd_mm", "diaphragm_shift_mm", "diaphragm_slices", "is_corrected"):
            del entry[name]
    path.write_text(json.dumps(index))
    old: PreparedPair = PreparedSet.open(prepared.root).pairs[0]
    assert old.shift_mm == (None, None, None) and old.misaligned_slices(limit_mm=1.0) == ()
    assert PreparedSet.open(Path(prepared.root)) == prepared
