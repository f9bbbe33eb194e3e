"""An imported network between the recipe's unit range and its own: windows, axes, frames, formula."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from lib.errors import CheckpointError, RecipeError
from lib.imaging.normalize import Windows, denormalize_pet, normalize_ct
from lib.mapping import from_mapping
from lib.networks.cascade import NetworkConfig
from lib.networks.external.axes import Axes
from lib.networks.external.network import ExternalNetwork
from lib.networks.external.settings import ExternalModel
from tests.networks.external.onnx_files import convolution, model, picking

WINDOWS = Windows(ct_low_hu=-900, ct_high_hu=200)


def network_of(content: bytes, *, context: int = 1, **settings: Any) -> ExternalNetwork:
    external = ExternalModel(hashlib.sha256(content).hexdigest(), 13, **settings)
    return ExternalNetwork(content, external, config=NetworkConfig(stages=1, context_slices=context), windows=WINDOWS)


def suv_of(network: ExternalNetwork, ct_hu: np.ndarray) -> np.ndarray:
    """Return the SUVbw (N, R, C) of HU (N, S, R, C)."""
    (pet,) = network(torch.from_numpy(normalize_ct(ct_hu.astype(np.float32), WINDOWS)))
    return denormalize_pet(pet.numpy(), WINDOWS)[:, 0]


def random_hu(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1000, 400, shape).astype(np.float32)


def test_seven_slices_in_three_out_and_seven_x_squared() -> None:
    """The middle of three PET slices, 7 x^2 with -900 to 200 HU as 0 to 1: worked by hand."""
    network = network_of(picking([0, 3, 6], 7), context=7, formula="7*x^2", output_low=0.0, output_high=1.0)
    ct_hu = random_hu(2, 7, 10, 12)
    expected = 7 * ((np.clip(ct_hu[:, 3], -900, 200) + 900) / 1100) ** 2
    np.testing.assert_allclose(suv_of(network, ct_hu), expected, atol=1e-5)


def test_another_output_slice_and_another_input_range() -> None:
    network = network_of(picking([0, 3, 6], 7), context=7, output_slice=2, input_low=-1.0, formula="x + 1")
    ct_hu = random_hu(1, 7, 10, 12)
    expected = 2 * (np.clip(ct_hu[:, 6], -900, 200) + 900) / 1100  # -1..1, plus 1
    np.testing.assert_allclose(suv_of(network, ct_hu), expected, atol=1e-5)


def test_the_output_is_clipped_before_the_formula_and_suv_is_never_below_0() -> None:
    content, ct_hu = picking([0], 1), np.array([-900.0, -350.0, 200.0], np.float32).reshape(1, 1, 1, 3)
    for settings, expected in (
        ({"formula": "4x"}, [0, 2, 4]),
        ({"formula": "4x", "output_high": 0.25}, [0, 1, 1]),
        ({"formula": "4x - 3"}, [0, 0, 1]),
    ):
        np.testing.assert_allclose(suv_of(network_of(content, **settings), ct_hu)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("letters", ["NSRC", "N1SRC", "NSCR", "SRC", "1RCS", "NsRc"])
def test_axes_are_undone(letters: str) -> None:
    """A network that returns its input gives the middle slice, whatever its axes are called."""
    import onnx

    content = model(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], [], [*"abcdef"[: len(letters)]], [*"abcdef"[: len(letters)]]
    )
    network = network_of(content, context=3, input_axes=letters, output_axes=letters)
    ct_hu = random_hu(1, 3, 9, 11)
    np.testing.assert_allclose(suv_of(network, ct_hu)[0], (np.clip(ct_hu[0, 1], -900, 200) + 900) / 1100, atol=1e-5)


def test_a_small_letter_reverses_an_axis() -> None:
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(Axes("NSrC").from_canonical(image)[0], image[:, ::-1])
    np.testing.assert_array_equal(Axes("cRs").from_canonical(image), image[::-1, :, ::-1].transpose(2, 1, 0))
    np.testing.assert_array_equal(Axes("NRC").from_canonical(image[:1])[0], image[0])


@pytest.mark.parametrize("letters", ["", "NS", "NSRR", "NSRCX", "nSRC", "N1111SRC"])
def test_axes_that_are_not_complete_are_refused(letters: str) -> None:
    with pytest.raises(RecipeError, match="expected R and C once"):
        Axes(letters)


@pytest.mark.parametrize("size", [(5, 6), (32, 33), (40, 24), (33, 64)])
def test_slices_are_padded_or_cropped_about_the_centre_and_back(size: tuple[int, int]) -> None:
    network = network_of(picking([0], 1, size=(32, 32)), frame=(32, 32))
    ct_hu = random_hu(1, 1, *size)
    found, expected = suv_of(network, ct_hu)[0], (np.clip(ct_hu[0, 0], -900, 200) + 900) / 1100
    inside = tuple(slice(max(length - 32, 0) // 2, max(length - 32, 0) // 2 + 32) for length in size)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)
    outside = np.ones(size, np.bool_)
    outside[inside] = False
    assert not found[outside].any()


def test_rows_and_columns_are_padded_with_air_to_a_multiple() -> None:
    """A mean over the image shows how large it was, and with what it was filled."""
    import onnx

    mean = onnx.helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=1)
    spread = onnx.helper.make_node("Expand", ["m", "size"], ["y"])
    size = onnx.numpy_helper.from_array(np.array([1, 1, 32, 64]), name="size")
    content = model([mean, spread], [size], [1, 1, "r", "c"], [1, 1, 32, 64])
    network = network_of(content, multiple=32, input_low=2.0, input_high=4.0)
    found = suv_of(network, np.full((1, 1, 20, 40), 1000, np.float32))
    inside = 20 * 40 / (32 * 64)
    np.testing.assert_allclose(found, 4 * inside + 2 * (1 - inside), atol=1e-5)


def test_an_output_of_another_size_is_refused() -> None:
    node, tensor = convolution(np.ones((1, 1, 3, 3), np.float32))  # loses a border
    content = model([node], [tensor], [1, 1, "r", "c"], [1, 1, "r2", "c2"])
    for network in (network_of(content), network_of(picking([0], 1), output_axes="NRCS")):
        with pytest.raises(CheckpointError, match="correct the axes, the output slice or the size") as refused:
            suv_of(network, random_hu(1, 1, 20, 24))
        assert refused.value.code == "invalid_onnx"


def test_another_file_than_that_of_the_card_is_refused() -> None:
    settings = ExternalModel("0" * 64, 13)
    with pytest.raises(CheckpointError, match="not the one that its model card describes"):
        ExternalNetwork(picking([0], 1), settings, config=NetworkConfig(stages=1), windows=WINDOWS)


def test_settings_survive_json() -> None:
    settings = ExternalModel("0" * 64, 13, output_low=0, output_slice=1, frame=(256, 320), baseline_patients=("ab",))
    assert from_mapping(ExternalModel, asdict(settings)) == settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "abc"}, "64 hexadecimal digits"),
        ({"input_low": 1.0}, "input range of an imported network"),
        ({"input_high": float("nan")}, "input range of an imported network"),
        ({"output_low": 1.0, "output_high": 0.0}, "output range of an imported network"),
        ({"frame": (256, 8)}, "rows and columns from 16 to 4096"),
        ({"multiple": 0}, "multiple of an imported network: expected 1 to 512"),
        ({"output_slice": -1}, "a number from 0"),
        ({"formula": "1/x"}, "polynomial"),
        ({"input_axes": "XY"}, "expected R and C once"),
        ({"license": "x" * 20_001}, "at most 20000 characters"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(words)):
        ExternalModel(**{"sha256": "0" * 64, "opset": 13, **changes})
