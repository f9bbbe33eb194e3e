"""Synthesis of a PET on the CT's grid: slabs, voxel orders, reproducibility and errors."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.dicom.scan.open_ct import open_ct
from lib.errors import CheckpointError, InputError, RecipeError
from lib.imaging.geometry import Geometry
from lib.imaging.normalize import denormalize_pet
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import load_checkpoint, save_checkpoint
from lib.networks.cascade import Cascade
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card, tiny_recipe

SHAPE = (9, 30, 26)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five context slices, 6 mm apart where slices allow; weights as they come."""
    torch.manual_seed(0)
    # untrained batch statistics would let nothing through
    recipe = tiny_recipe("context_slices=5", "context_spacing_mm=6.0", "normalization=instance", "flips=false")
    card = make_card(recipe=recipe, network=recipe.network)
    return save_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", Cascade(recipe.network), card)


@pytest.fixture(scope="module")
def synthesizer(model: Path) -> Synthesizer:
    return Synthesizer.load(model, device="cpu")


@pytest.fixture
def ct() -> Volume:
    """Leaning by 6 degrees, 3 mm apart, pixels of 1.5 x 1.25 mm."""
    geometry = Geometry.from_dicom(
        SHAPE,
        first_position_mm=(-20, -30, 400),
        orientation=(1, 0, 0, 0, 180 / 181, -19 / 181),
        pixel_spacing_mm=(1.5, 1.25),
        slice_spacing_mm=3.0,
    )
    random = np.random.default_rng(0)
    return Volume(random.uniform(-1000, 1000, SHAPE).astype(np.float32), geometry, Unit.HU)


def always(value: float, path: Path) -> Synthesizer:
    """A model that predicts one number, in the unit range, everywhere."""
    recipe = tiny_recipe("stages=1")
    cascade = Cascade(recipe.network)
    torch.nn.init.zeros_(cascade.stages[0].head.weight)  # type: ignore[union-attr, arg-type]
    torch.nn.init.constant_(cascade.stages[0].head.bias, value)  # type: ignore[union-attr, arg-type]
    return Synthesizer.load(save_checkpoint(path, cascade, make_card(recipe=recipe, network=recipe.network)))


# -- the grid ----------------------------------------------------------------------------------------------------------


def test_a_synthetic_pet_is_suv_on_the_cts_grid(synthesizer: Synthesizer, ct: Volume) -> None:
    pet = synthesizer.apply(ct)
    assert pet.unit is Unit.SUV_BW and pet.array.dtype == np.float32
    assert pet.geometry.same_grid_as(ct.geometry)
    assert np.isfinite(pet.array).all() and pet.array.min() >= 0 and pet.array.std() > 0


def test_slices_without_a_body_are_not_computed(tmp_path: Path, ct: Volume) -> None:
    ct.array[[0, 4]] = -700  # air and foam
    pet = always(0.5, tmp_path / "model.safetensors").apply(ct)
    assert (pet.array[[0, 4]] == 0).all()
    assert (pet.array[[1, 2, 3, 5, 6, 7, 8]] > 0).all()


def test_the_runtime_is_chosen_when_a_model_is_loaded(model: Path) -> None:
    assert Synthesizer.load(model, device="cpu", runtime="folded").runtime.network.name == "folded"
    with pytest.raises(RecipeError, match="one of auto, eager"):
        Synthesizer.load(model, device="cpu", runtime="tensorrt")  # type: ignore[arg-type]


def test_on_another_device_it_has_weights_of_its_own_and_the_same_pet(synthesizer: Synthesizer, ct: Volume) -> None:
    replica = synthesizer.on(torch.device("cpu:1"))  # in torch's eyes another device
    assert replica is synthesizer.on(torch.device("cpu:1")) is not synthesizer
    assert synthesizer.on(torch.device("cpu")) is synthesizer.on(torch.device("cpu:0")) is synthesizer
    own = next(replica.cascade.parameters())
    assert own.data_ptr() != next(synthesizer.cascade.parameters()).data_ptr()
    assert replica.checksum == synthesizer.checksum
    np.testing.assert_array_equal(replica.apply(ct).array, synthesizer.apply(ct).array)


def test_on_the_networks_grid_it_is_the_networks_output(synthesizer: Synthesizer, ct: Volume) -> None:
    pet = synthesizer.apply(ct, slice(2, 5), grid="network")
    assert pet.geometry.shape == (3, 22, 16)  # 45 x 32.5 mm in pixels of 2 mm
    assert pet.geometry.same_grid_as(synthesizer.card.recipe.grid.on(ct.geometry).slab(slice(2, 5)))


def test_a_ct_whose_pixels_are_the_recipes_is_not_resampled(synthesizer: Synthesizer, ct: Volume) -> None:
    geometry = Geometry.from_dicom(
        SHAPE, first_position_mm=(0, 0, 0), orientation=(1, 0, 0, 0, 1, 0), pixel_spacing_mm=(2, 2), slice_spacing_mm=3
    )
    same = Volume(ct.array, geometry, Unit.HU)
    on_ct, on_network = synthesizer.apply(same), synthesizer.apply(same, grid="network")
    np.testing.assert_array_equal(on_ct.array, on_network.array)


@pytest.mark.parametrize(("unit_value", "suv"), [(0.5, 5.0), (1.0, 20.0), (1.5, 45.0), (0.0, 0.0), (-1.0, 0.0)])
def test_the_networks_output_is_converted_to_suv_and_never_negative(
    tmp_path: Path, ct: Volume, unit_value: float, suv: float
) -> None:
    pet = always(unit_value, tmp_path / "model.safetensors").apply(ct, slice(0, 2))
    np.testing.assert_allclose(pet.array, suv, rtol=0.01)  # SUV 20 times the square; bfloat16 holds 8 bits


# -- slice-wise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (slice(0, 1), (0, 1)),
        (slice(3, 7), (3, 7)),
        (slice(8, 9), (8, 9)),
        (slice(None, 2), (0, 2)),
        (slice(7, None), (7, 9)),
        (slice(-3, -1), (6, 8)),
        (slice(None), (0, 9)),
    ],
)
def test_a_slab_equals_the_same_slices_of_the_full_volume(
    synthesizer: Synthesizer, ct: Volume, slices: slice, expected: tuple[int, int]
) -> None:
    full, slab = synthesizer.apply(ct), synthesizer.apply(ct, slices)
    np.testing.assert_array_equal(slab.array, full.array[slice(*expected)])
    assert slab.geometry.same_grid_as(ct.geometry.slab(slice(*expected)))


@pytest.mark.parametrize("slices", [slice(0, 2), slice(9, 14), slice(23, 24)])
def test_a_slab_of_a_real_ct_equals_the_same_slices_of_the_full_volume(
    synthesizer: Synthesizer, real_whole: tuple[Volume, Volume], slices: slice
) -> None:
    ct, full = real_whole
    slab = synthesizer.apply(ct, slices)
    np.testing.assert_array_equal(slab.array, full.slab(slices).array)
    assert slab.geometry.same_grid_as(ct.geometry.slab(slices))


@pytest.fixture(scope="module")
def real_whole(synthesizer: Synthesizer, shared_data: Path) -> tuple[Volume, Volume]:
    ct = open_ct(shared_data / "ct_only" / "Lung_Dx-A0001")
    return ct, synthesizer.apply(ct)


def test_a_slice_depends_on_its_context_only(synthesizer: Synthesizer, ct: Volume) -> None:
    before = synthesizer.apply(ct, slice(4, 5)).array
    for changed, seen in ((4, True), (2, True), (0, True), (6, True), (8, True), (3, False), (5, False), (1, False)):
        other = ct.array.copy()
        other[changed] = 0.0
        after = synthesizer.apply(replace(ct, array=other), slice(4, 5)).array
        assert bool((after != before).any()) == seen, changed  # two slices, 6 mm, apart


def test_synthesis_is_deterministic_and_keeps_the_ct(model: Path, synthesizer: Synthesizer, ct: Volume) -> None:
    before = ct.array.copy()
    first = synthesizer.apply(ct).array
    np.testing.assert_array_equal(synthesizer.apply(ct).array, first)
    np.testing.assert_array_equal(Synthesizer.load(model, device="cpu").apply(ct).array, first)
    np.testing.assert_array_equal(ct.array, before)


def test_the_pet_is_that_of_the_last_stage(model: Path, ct: Volume) -> None:
    cascade, card = load_checkpoint(model)
    synthesizer = Synthesizer.load(model, device="cpu", precision="float32")
    with torch.no_grad():  # slice 0: its neighbours before it are itself
        unit = (ct.array[[0, 0, 0, 2, 4]] + 1000) / 2000
        stages = cascade(torch.from_numpy(unit)[None])
    geometry = Geometry.from_dicom(
        SHAPE, first_position_mm=(0, 0, 0), orientation=(1, 0, 0, 0, 1, 0), pixel_spacing_mm=(2, 2), slice_spacing_mm=3
    )
    predicted = synthesizer.apply(Volume(ct.array, geometry, Unit.HU), slice(0, 1)).array
    np.testing.assert_allclose(predicted, denormalize_pet(stages[-1][0].numpy(), card.recipe.windows), atol=1e-4)


def test_with_flips_the_mirrored_ct_gives_the_mirrored_pet(tmp_path: Path, ct: Volume) -> None:
    torch.manual_seed(0)
    mirrored = replace(ct, array=np.ascontiguousarray(ct.array[..., ::-1]))
    for setting, expected in (("flips=true", True), ("flips=false", False)):
        recipe = tiny_recipe(setting, "normalization=instance")
        path = save_checkpoint(
            tmp_path / setting, Cascade(recipe.network), make_card(recipe=recipe, network=recipe.network)
        )
        synthesizer = Synthesizer.load(path, device="cpu")
        pets = [synthesizer.apply(volume, slice(2, 5)).array for volume in (ct, mirrored)]
        assert np.allclose(pets[0], pets[1][..., ::-1], rtol=1e-5, atol=1e-6) == expected, setting


def test_progress_is_reported_for_every_slice(synthesizer: Synthesizer, ct: Volume) -> None:
    result: list[tuple[int, int, str]] = []
    synthesizer.apply(ct, slice(2, 5), progress=lambda *step: result.append(step))
    assert result == [(1, 3, "synthesising"), (2, 3, "synthesising"), (3, 3, "synthesising")]


# -- any voxel order ---------------------------------------------------------------------------------------------------

ORDERS = [(axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


def stored_as(volume: Volume, axes: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """Return the volume with its array axes (slices, rows, columns) permuted, then flipped where the sign is -1."""
    array, columns, origin = volume.array.transpose(axes), [], volume.geometry.affine[:3, 3].copy()
    for number, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        column = volume.geometry.affine[:3, 2 - axis]
        columns.insert(0, sign * column)
        if sign < 0:
            array = np.flip(array, number)
            origin += (volume.geometry.shape[axis] - 1) * column
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.stack(columns, axis=1), origin
    array = np.ascontiguousarray(array)
    return Volume(array, Geometry((array.shape[0], array.shape[1], array.shape[2]), affine), volume.unit)


def test_one_ct_has_one_pet_in_every_voxel_order(synthesizer: Synthesizer, ct: Volume) -> None:
    short = ct.slab(slice(0, 4))
    predicted = synthesizer.apply(short)
    for order in ORDERS:
        stored, expected = stored_as(short, *order), stored_as(predicted, *order)
        pet = synthesizer.apply(stored)
        np.testing.assert_array_equal(pet.array, expected.array, str(order))
        assert pet.array.flags.c_contiguous
        np.testing.assert_array_equal(pet.geometry.affine, stored.geometry.affine)


@pytest.mark.parametrize(
    "order", [((0, 1, 2), (-1, 1, 1)), ((0, 2, 1), (-1, -1, 1)), ((2, 1, 0), (1, 1, 1)), ((1, 0, 2), (-1, 1, -1))]
)
def test_a_slab_of_stored_slices_equals_the_same_slices_of_the_full_volume(
    synthesizer: Synthesizer, ct: Volume, order: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    stored = stored_as(ct, *order)
    full = synthesizer.apply(stored)
    for slices in (slice(0, 2), slice(3, 7), slice(-1, None)):  # of the stored array, whatever axis that is
        slab = synthesizer.apply(stored, slices)
        np.testing.assert_array_equal(slab.array, full.array[slices])
        assert slab.geometry.same_grid_as(stored.geometry.slab(slices), tolerance_mm=1e-9)


@pytest.mark.parametrize(
    ("order", "slices", "steps"),
    [
        (((0, 1, 2), (-1, 1, 1)), slice(2, 5), 3),  # downward: three axial slices
        (((2, 1, 0), (1, 1, 1)), slice(2, 5), 9),  # sagittal slices pass through all nine
    ],
)
def test_progress_is_reported_for_every_axial_slice(
    synthesizer: Synthesizer,
    ct: Volume,
    order: tuple[tuple[int, ...], tuple[int, ...]],
    slices: slice,
    steps: int,
) -> None:
    result: list[tuple[int, int, str]] = []
    synthesizer.apply(stored_as(ct, *order), slices, progress=lambda *step: result.append(step))
    assert result == [(step, steps, "synthesising") for step in range(1, steps + 1)]


def test_on_the_networks_grid_every_order_is_canonical(synthesizer: Synthesizer, ct: Volume) -> None:
    expected = synthesizer.apply(ct, slice(2, 5), grid="network")
    downward = synthesizer.apply(stored_as(ct, (0, 1, 2), (-1, 1, -1)), slice(4, 7), grid="network")
    np.testing.assert_array_equal(downward.array, expected.array)
    assert downward.geometry.same_grid_as(expected.geometry)


@pytest.mark.parametrize(("degrees", "taken"), [(9.9, True), (10.1, False), (45.0, False)])
def test_an_oblique_ct_is_rejected_beyond_ten_degrees(
    synthesizer: Synthesizer, ct: Volume, degrees: float, taken: bool
) -> None:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    turned = Volume(ct.array, Geometry(SHAPE, affine), Unit.HU)
    if taken:
        assert synthesizer.apply(turned, slice(0, 1)).geometry.shape == (1, *SHAPE[1:])
        return
    with pytest.raises(InputError, match=rf"oblique volume: its row axis leans {degrees:.1f} degrees .* resample it"):
        synthesizer.apply(turned)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [Unit.SUV_BW, Unit.BQML, Unit.UNIT_RANGE])
def test_a_volume_that_is_not_in_hu_is_rejected(synthesizer: Synthesizer, ct: Volume, unit: Unit) -> None:
    with pytest.raises(InputError, match=f"expected a CT in HU, found a volume in {unit.value}"):
        synthesizer.apply(replace(ct, unit=unit))


@pytest.mark.parametrize(
    "slices", [slice(5, 5), slice(5, 3), slice(0, 10), slice(9, None), slice(0, 9, 2), slice(-10, 3)]
)
def test_slices_outside_the_volume_are_rejected(synthesizer: Synthesizer, ct: Volume, slices: slice) -> None:
    with pytest.raises(InputError, match=r"are not a range within the 9 slices \(0:9\)"):
        synthesizer.apply(ct, slices)


def test_an_unknown_grid_is_rejected(synthesizer: Synthesizer, ct: Volume) -> None:
    with pytest.raises(InputError, match="grid must be one of ct, network, found 'pet'"):
        synthesizer.apply(ct, grid="pet")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "message"), [("gpu", "unknown device 'gpu'"), ("cuda:99", "this machine has . CUDA devices")]
)
def test_an_unavailable_device_is_rejected(model: Path, device: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Synthesizer.load(model, device=device)


def test_a_file_that_is_not_a_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable"):
        Synthesizer.load(tmp_path / "nothing.safetensors")


def test_a_synthesizer_has_the_checksum_of_its_file(model: Path, synthesizer: Synthesizer) -> None:
    assert synthesizer.checksum == hashlib.sha256(model.read_bytes()).hexdigest()
    assert synthesizer.card.name == "tiny"
