"""Prepared arrays come back in physical units, and whatever is missing, torn or of another time is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.errors import PreparedDataError
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.pairing.prepared import ARRAYS, Preparation, PreparedPair, PreparedSet, write_index

FLOAT = Preparation(Grid(pixel_mm=2.0), Windows(pet_high_suv=20.0, pet_curve="sqrt"))
LEVELS = Preparation(Grid(size=16), Windows(pet_high_suv=10.0, pet_curve="linear", bits=8))


def write_one(root: Path, preparation: Preparation, **arrays: np.ndarray[Any, Any]) -> PreparedSet:
    shape = arrays["ct"].shape
    pair = PreparedPair(
        id="a1",
        patient_id="P1",
        study_instance_uid="1.2",
        ct_series_instance_uid="1.2.1",
        pet_series_instance_uid="1.2.2",
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=(3.0, 2.0, 2.0),
        affine=((2.0, 0.0, 0.0, 5.0), (0.0, 2.0, 0.0, 6.0), (0.0, 0.0, 3.0, 7.0), (0.0, 0.0, 0.0, 1.0)),
        ct_slices=tuple(range(shape[0])),
        largest_offset_mm=0.1,
        source="made on the spot",
        preparation=preparation.digest(),
    )
    folder = root / "pairs" / pair.id
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    write_index(root, preparation, [pair])
    return PreparedSet.open(root)


@pytest.fixture
def one(tmp_path: Path) -> PreparedSet:
    ct = np.array([[[0.0, 0.5, 1.0, 0.25]]], np.float16)
    pet = np.array([[[0.0, 0.5, 1.0, 2.0]]], np.float16)
    return write_one(tmp_path, FLOAT, ct=ct, pet=pet, regions=np.array([[[0, 1, 2, 3]]], np.uint8))


def test_floats_become_hu_and_suv(one: PreparedSet) -> None:
    arrays = one.arrays(one.pairs[0])
    np.testing.assert_allclose(arrays.ct_hu(), [[[-1000, 0, 1000, -500]]])
    np.testing.assert_allclose(arrays.suv_bw(), [[[0, 5, 20, 80]]])  # the square, times 20; nothing is clipped above
    np.testing.assert_array_equal(arrays.measured(), [[[False, False, True, True]]])
    np.testing.assert_array_equal(arrays.body(), [[[False, False, False, True]]])  # of what was measured
    assert {arrays.ct_unit().dtype, arrays.pet_unit().dtype, arrays.ct_hu().dtype} == {np.dtype(np.float32)}


def test_levels_become_hu_and_suv(tmp_path: Path) -> None:
    levels = np.array([[[0, 51, 255]]], np.uint8)
    found = write_one(tmp_path, LEVELS, ct=levels, pet=levels, regions=np.full((1, 1, 3), 3, np.uint8))
    arrays = found.arrays(found.pairs[0])
    np.testing.assert_allclose(arrays.ct_hu(), [[[-1000, -600, 1000]]], atol=1e-3)
    np.testing.assert_allclose(arrays.suv_bw(), [[[0, 2, 10]]], atol=1e-5)


def test_slices_are_chosen_by_index_or_range(tmp_path: Path) -> None:
    ct = np.arange(24, dtype=np.float16).reshape(4, 2, 3) / 32
    found = write_one(tmp_path, FLOAT, ct=ct, pet=ct, regions=np.ones((4, 2, 3), np.uint8))
    arrays = found.arrays(found.pairs[0])
    np.testing.assert_array_equal(arrays.ct_unit([2, 2, 0]), ct[[2, 2, 0]].astype(np.float32))
    np.testing.assert_array_equal(arrays.pet_unit(slice(1, 3)), ct[1:3].astype(np.float32))


def test_the_index_is_read_back_unchanged(one: PreparedSet) -> None:
    assert one.preparation == FLOAT and one.patients() == ("P1",)
    assert PreparedSet.open(one.root) == one
    assert one.pairs[0].geometry().origin_mm == (5.0, 6.0, 7.0) and one.pairs[0].geometry().spacing_mm == (3, 2, 2)


def test_pairs_are_listed_by_patient(one: PreparedSet) -> None:
    others = [dataclasses.replace(one.pairs[0], patient_id=patient, id=patient) for patient in ("P3", "P0", "P2")]
    write_index(one.root, FLOAT, others)
    assert [pair.patient_id for pair in PreparedSet.open(one.root).pairs] == ["P0", "P2", "P3"]


def test_the_digest_changes_with_anything_that_changes_the_arrays() -> None:
    others = [
        Preparation(Grid(pixel_mm=2.5), FLOAT.windows),
        Preparation(Grid(pixel_mm=2.0, slices="match"), FLOAT.windows),
        Preparation(FLOAT.grid, dataclasses.replace(FLOAT.windows, pet_high_suv=15.0)),
        Preparation(FLOAT.grid, dataclasses.replace(FLOAT.windows, bits=8)),
    ]
    assert len({FLOAT.digest(), *(other.digest() for other in others)}) == 5
    assert Preparation(Grid(pixel_mm=2.0), Windows()).digest() == FLOAT.digest()


def test_a_folder_without_an_index_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PreparedDataError, match=r"no index\.json, so no prepared arrays"):
        PreparedSet.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index | {"format": 99}, "format 99, expected 2; prepare again"),
        (lambda index: {"format": 2}, "damaged index"),
        (lambda index: index | {"pairs": [{"id": "a1"}]}, "damaged index .*missing patient_id, study_instance_uid"),
        (lambda index: index | {"pairs": [index["pairs"][0] | {"mood": 1}]}, "damaged index .*unknown key mood"),
        (lambda index: index | {"preparation": {"grid": {}, "windows": {}}}, "damaged index .*either pixel_mm"),
        (lambda index: index | {"preparation": {"grid": {"pixle": 1}, "windows": {}}}, "damaged index .*pixle"),
        (lambda index: index | {"pairs": None}, "damaged index"),
        (lambda index: [], "damaged index"),
    ],
)
def test_a_damaged_index_is_refused(one: PreparedSet, change: Any, message: str) -> None:
    path = one.root / "index.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(PreparedDataError, match=message):
        PreparedSet.open(one.root)


def test_a_set_without_the_origin_of_its_series_opens(one: PreparedSet) -> None:
    path = one.root / "index.json"
    index = json.loads(path.read_text())
    for name in ("ct_scanner", "pet_scanner", "body_part", "tracer"):
        assert index["pairs"][0].pop(name) == ""
    for name in ("ct_kernel", "contrast_agent", "sex", "age_years", "ct_pixel_mm", "metal_ml"):
        assert not index["pairs"][0].pop(name)
    path.write_text(json.dumps(index))
    assert PreparedSet.open(one.root) == one


def test_a_cut_off_index_is_refused(one: PreparedSet) -> None:
    path = one.root / "index.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(PreparedDataError, match=r"damaged index .*; prepare again"):
        PreparedSet.open(one.root)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_or_cut_off_array_is_refused_by_name(one: PreparedSet, name: str) -> None:
    path = one.root / "pairs" / "a1" / f"{name}.npy"
    content = path.read_bytes()
    for length in (len(content) - 1, 100, 0):
        path.write_bytes(content[:length])
        with pytest.raises(PreparedDataError, match=rf"{name}\.npy: missing or cut off .*; prepare again"):
            one.arrays(one.pairs[0])
    path.unlink()
    with pytest.raises(PreparedDataError, match=rf"{name}\.npy: missing or cut off"):
        one.arrays(one.pairs[0])


def test_an_array_that_would_run_code_is_refused(one: PreparedSet) -> None:
    np.save(one.root / "pairs" / "a1" / "ct.npy", np.array([{"a": "pickle"}]), allow_pickle=True)
    with pytest.raises(PreparedDataError, match=r"ct\.npy: missing or cut off"):
        one.arrays(one.pairs[0])


def test_an_array_of_another_shape_is_refused(one: PreparedSet) -> None:
    np.save(one.root / "pairs" / "a1" / "pet.npy", np.zeros((1, 1, 5), np.float16))
    with pytest.raises(PreparedDataError, match=r"pet\.npy: shape \(1, 1, 5\), expected \(1, 1, 4\); prepare again"):
        one.arrays(one.pairs[0])


def test_arrays_are_mapped_not_read(one: PreparedSet) -> None:
    assert isinstance(one.arrays(one.pairs[0]).ct, np.memmap)
