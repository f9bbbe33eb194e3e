"""The samples of a process and their order: the same after an interruption, none twice, no patient on two sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import PreparedDataError
from lib.learning.dataset import (
    SampleKey,
    ShardSampler,
    SliceDataset,
    patch_size,
    patient_shard,
    split_pairs,
    training_loader,
)
from lib.learning.recipe import Recipe, load_recipe
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Split
from tests.learning.conftest import SLICES, make_prepared, tiny_recipe

TRAIN = ("P0", "P1", "P5")  # under the default split, which is stable by design; see conftest


def dataset_of(prepared: PreparedSet, recipe: Recipe) -> SliceDataset:
    return SliceDataset(prepared, split_pairs(prepared, recipe.split).train, recipe)


def sample_keys(
    dataset: SliceDataset, recipe: Recipe, *, epoch: int, rank: int = 0, world_size: int = 1
) -> list[SampleKey]:
    sampler = ShardSampler(dataset, recipe, rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    return list(sampler)


# -- sides -------------------------------------------------------------------------------------------------------------


def test_a_patient_is_on_one_side_only(prepared: PreparedSet) -> None:
    sides = split_pairs(prepared, Split())
    assert sides.patients("train") == TRAIN
    assert sides.patients("validation") == ("P6", "P7")
    assert sides.patients("test") == ("P2", "P3", "P4", "P8", "P9")
    assert all(indices == tuple(range(SLICES)) for _, indices in (*sides.train, *sides.validation, *sides.test))


def test_assigned_sides_override_the_split(prepared: PreparedSet) -> None:
    assigned = {"P0": "validation", "P2": "train", "P9": "train", "somebody else": "test"}
    for split in (Split(), Split(test=0.0, validation=0.5), Split(salt="another", offset=0.5)):
        sides = split_pairs(prepared, split, assigned)  # type: ignore[arg-type]
        assert "P0" in sides.patients("validation") and {"P2", "P9"} <= set(sides.patients("train"))
        others = {patient: split.side_of_patient(patient) for patient in prepared.patients() if patient not in assigned}
        assert all(patient in sides.patients(side) for patient, side in others.items())


def test_a_split_by_slice_ignores_assigned_sides(prepared: PreparedSet) -> None:
    split = load_recipe("paper").split
    assert split_pairs(prepared, split, dict.fromkeys(prepared.patients(), "train")) == split_pairs(prepared, split)


def test_under_recipe_paper_slices_of_one_patient_are_on_both_sides(prepared: PreparedSet) -> None:
    sides = split_pairs(prepared, load_recipe("paper").split)
    assert not sides.validation
    both = set(sides.patients("train")) & set(sides.patients("test"))
    assert both
    for patient in prepared.patients():
        found = [i for pair, indices in (*sides.train, *sides.test) if pair.patient_id == patient for i in indices]
        assert sorted(found) == list(range(SLICES))  # each slice once


def test_no_training_patients_is_an_error(prepared: PreparedSet) -> None:
    with pytest.raises(PreparedDataError, match=r"none of the 10 patients .* set split\.validation and split\.test"):
        split_pairs(prepared, Split(validation=0.0, test=0.999999))


# -- samples -----------------------------------------------------------------------------------------------------------


def with_shape(prepared: PreparedSet, number: int, shape: tuple[int, int, int]) -> PreparedSet:
    """Return the set with one pair whose arrays are cut to a smaller shape."""
    pair = replace(prepared.pairs[number], shape=shape)
    for name in ("ct", "pet", "regions"):
        path = prepared.root / "pairs" / pair.id / f"{name}.npy"
        np.save(path, np.load(path)[tuple(slice(0, length) for length in shape)])
    return replace(prepared, pairs=(*prepared.pairs[:number], pair, *prepared.pairs[number + 1 :]))


def test_a_sample_is_the_slice_with_its_neighbours(prepared: PreparedSet) -> None:
    dataset = dataset_of(prepared, tiny_recipe("context_slices=3"))
    arrays = dataset.arrays[0]
    for index, context in ((0, [0, 0, 1]), (1, [0, 1, 2]), (5, [4, 5, 5])):  # beyond an end the last slice is held
        ct, pet, regions = dataset[SampleKey(1, index)]
        np.testing.assert_array_equal(ct, arrays.ct_unit(context))
        np.testing.assert_array_equal(pet, arrays.pet_unit([index]))
        np.testing.assert_array_equal(regions, arrays.regions[[index]])
        assert (ct.dtype, pet.dtype, regions.dtype) == (torch.float32, torch.float32, torch.uint8)


def test_the_context_spacing_is_in_mm(prepared: PreparedSet) -> None:
    recipe = tiny_recipe("context_slices=5", "context_spacing_mm=6.0")  # slices are 3 mm apart
    dataset = dataset_of(prepared, recipe)
    ct, _, _ = dataset[SampleKey(1, 3)]
    np.testing.assert_array_equal(ct, dataset.arrays[0].ct_unit([0, 1, 3, 5, 5]))


def test_ct_pet_and_regions_are_cropped_at_the_same_position(prepared: PreparedSet) -> None:
    dataset = dataset_of(prepared, tiny_recipe("batches.patch=16"))
    arrays, places = dataset.arrays[0], set()
    for epoch in range(1, 13):
        ct, pet, regions = (array.numpy() for array in dataset[SampleKey(epoch, 2)])
        assert ct.shape == (3, 16, 16) and pet.shape == regions.shape == (1, 16, 16)
        windows = np.lib.stride_tricks.sliding_window_view(arrays.ct_unit(2), (16, 16))
        (row, column) = np.argwhere((windows == ct[1]).all(axis=(2, 3)))[0]
        np.testing.assert_array_equal(pet, arrays.pet_unit([2])[:, row : row + 16, column : column + 16])
        np.testing.assert_array_equal(regions, arrays.regions[[2], row : row + 16, column : column + 16])
        places.add((row, column))
    assert len(places) > 6  # another epoch, another place


def test_a_smaller_slice_is_padded_with_unmeasured_air(prepared: PreparedSet) -> None:
    dataset = dataset_of(with_shape(prepared, 0, (SLICES, 20, 28)), tiny_recipe())
    arrays, places = dataset.arrays[0], set()
    for epoch in range(1, 9):
        ct, pet, regions = (array.numpy() for array in dataset[SampleKey(epoch, 2)])
        row, column = (int(axis.min()) for axis in np.nonzero(regions[0]))  # everything inside was measured
        assert ct.shape == (3, 32, 32) and regions[0].astype(bool).sum() == 20 * 28
        for cut, whole in (
            (ct, arrays.ct_unit([1, 2, 3])),
            (pet, arrays.pet_unit([2])),
            (regions, arrays.regions[[2]]),
        ):
            np.testing.assert_array_equal(cut[:, row : row + 20, column : column + 28], whole)
            assert cut.sum(dtype=np.float64) == pytest.approx(whole.sum(dtype=np.float64))  # 0 elsewhere
        places.add((row, column))
    assert len(places) > 3


def test_a_sample_depends_only_on_its_key(prepared: PreparedSet) -> None:
    recipe = tiny_recipe("batches.patch=16")
    for once, again in zip(
        dataset_of(prepared, recipe)[SampleKey(3, 7)], dataset_of(prepared, recipe)[SampleKey(3, 7)], strict=True
    ):
        assert torch.equal(once, again)


@pytest.mark.parametrize(
    ("depth", "patch", "expected"),
    [(2, 256, 32), (4, 256, 32), (5, 256, 32), (6, 256, 64), (2, 30, 28), (2, 3, 4), (4, 17, 16)],
)
def test_the_patch_size_is_a_multiple_of_the_pooling(
    prepared: PreparedSet, depth: int, patch: int, expected: int
) -> None:
    assert patch_size(prepared, tiny_recipe(f"depth={depth}", f"batches.patch={patch}")) == expected


# -- sampling ----------------------------------------------------------------------------------------------------------


def test_an_epoch_has_every_slice_once_in_its_own_order(prepared: PreparedSet) -> None:
    recipe = tiny_recipe("batches.size=3")
    dataset = dataset_of(prepared, recipe)
    first, second = (sample_keys(dataset, recipe, epoch=epoch) for epoch in (1, 2))
    assert sorted(key.sample for key in first) == list(range(18))
    assert sorted(key.sample for key in second) == list(range(18))
    assert [key.sample for key in first] != [key.sample for key in second]
    assert {key.epoch for key in first} == {1}
    assert sample_keys(dataset, recipe, epoch=1) == first
    assert sample_keys(dataset, replace(recipe, seed=1), epoch=1) != first


def test_fewer_slices_than_a_batch_fill_one_batch(prepared: PreparedSet) -> None:
    recipe = tiny_recipe("batches.size=40")
    found = [key.sample for key in sample_keys(dataset_of(prepared, recipe), recipe, epoch=1)]
    assert len(found) == 40 and set(found) == set(range(18))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_gives_batches_of_one_shape(prepared: PreparedSet, workers: int) -> None:
    recipe = tiny_recipe(f"workers={workers}")
    dataset = dataset_of(prepared, recipe)
    sampler = ShardSampler(dataset, recipe)
    sampler.set_epoch(1)
    batches = [
        [tuple(array.shape) for array in batch] for batch in training_loader(dataset, sampler, recipe, pin=False)
    ]
    assert batches == [[(4, 3, 32, 32), (4, 1, 32, 32), (4, 1, 32, 32)]] * 4  # 18 slices


# -- shares of several processes ---------------------------------------------------------------------------------------


@given(
    slices_of=st.lists(st.integers(1, 60), min_size=1, max_size=25),
    world_size=st.integers(1, 8),
)
def test_shards_are_disjoint_complete_even_and_divide_no_patient(slices_of: list[int], world_size: int) -> None:
    owners = [patient for patient, count in enumerate(slices_of) for _ in range(count)]
    dataset = SimpleNamespace(
        samples=[(patient, 0) for patient in owners],
        arrays=[SimpleNamespace(pair=SimpleNamespace(patient_id=f"P{number}")) for number in range(len(slices_of))],
    )
    if len(slices_of) < world_size:
        with pytest.raises(PreparedDataError, match="start fewer processes"):
            patient_shard(dataset, rank=0, world_size=world_size)  # type: ignore[arg-type]
        return
    shares = [patient_shard(dataset, rank=rank, world_size=world_size) for rank in range(world_size)]  # type: ignore[arg-type]
    assert sorted(np.concatenate(shares)) == list(range(len(owners)))
    of_patients = [{owners[sample] for sample in share} for share in shares]
    assert sum(map(len, of_patients)) == len(slices_of)
    assert max(map(len, shares)) - min(map(len, shares)) <= max(slices_of)


def test_every_process_has_equally_many_batches_of_its_own_patients(tmp_path: Path) -> None:
    recipe = tiny_recipe("split.test=0.0", "split.validation=0.0")
    prepared = with_shape(make_prepared(tmp_path, recipe.preparation), 0, (2, 32, 32))
    dataset = dataset_of(prepared, recipe)
    of_rank = [sample_keys(dataset, recipe, epoch=1, rank=rank, world_size=4) for rank in range(4)]
    assert {len(found) for found in of_rank} == {14}  # 56 slices, 4 processes, one slice of each batch of 4
    patients = [{dataset.samples[key.sample][0] for key in found} for found in of_rank]
    assert set.union(*patients) == set(range(10)) and sum(map(len, patients)) == 10


def test_more_processes_than_patients_are_refused(prepared: PreparedSet) -> None:
    recipe = tiny_recipe()
    with pytest.raises(PreparedDataError, match="3 training patients for 4 processes; start fewer processes"):
        ShardSampler(dataset_of(prepared, recipe), recipe, rank=0, world_size=4)
