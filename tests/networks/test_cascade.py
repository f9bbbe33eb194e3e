"""Shapes, sizes and cost of the networks, compared with values computed by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.errors import RecipeError
from lib.learning.recipe import load_recipe
from lib.networks.cascade import Cascade, NetworkConfig, count_parameters, forward_flops
from lib.networks.unet import UNet


def tiny(**settings: object) -> NetworkConfig:
    return NetworkConfig(**{"stages": 1, "base_channels": 2, "depth": 2, **settings})  # type: ignore[arg-type]


# By hand, base width b, one channel in, depth 1:
#   encoder 0: 9*1*b + b, 9*b*b + b;  encoder 1: 9*b*2b + 2b, 9*2b*2b + 2b
#   up: 4*2b*b + b;  decoder: 9*2b*b + b, 9*b*b + b;  head: b + 1
#   b = 2: 20 + 38 + 76 + 148 + 34 + 74 + 38 + 3 = 431
def test_parameters_of_the_smallest_unet() -> None:
    assert count_parameters(UNet(base_channels=2, depth=1)) == 431


# PAPER: "a standard U-Net with base width 64 has 31.0 M; 80 gives 48.5 M, 82 gives 50.9 M"
@pytest.mark.parametrize(("base_channels", "millions"), [(64, 31.0), (80, 48.5), (82, 50.9)])
def test_parameters_of_the_standard_unet(base_channels: int, millions: float) -> None:
    with torch.device("meta"):
        unet = UNet(base_channels=base_channels, depth=4)
    assert count_parameters(unet) / 1e6 == pytest.approx(millions, abs=0.06)


def test_the_papers_recipe_has_about_fifty_million_parameters_per_stage() -> None:
    with torch.device("meta"):
        cascade = Cascade(load_recipe("paper").network)
    assert 47.5e6 < count_parameters(cascade) < 52.5e6


# The U-Net of 31.0 M parameters at 256 x 256 is 96 GFLOP a slice (a multiply and an add are two)
def test_flops_of_the_standard_unet() -> None:
    config = NetworkConfig(stages=1, base_channels=64)
    assert forward_flops(config, rows=256, columns=256) / 1e9 == pytest.approx(96, abs=0.5)


@pytest.mark.parametrize("config", [tiny(), tiny(stages=3), tiny(context_slices=5, depth=3, base_channels=4)])
def test_flops_are_what_torch_counts(config: NetworkConfig) -> None:
    with FlopCounterMode(display=False) as counter:
        Cascade(config)(torch.zeros(1, config.context_slices, 32, 24))
    assert forward_flops(config, rows=32, columns=24) == counter.get_total_flops()


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 6])
def test_every_stage_returns_a_pet_of_the_cts_size(stages: int) -> None:
    pets = Cascade(tiny(stages=stages, context_slices=3))(torch.zeros(2, 3, 20, 12))
    assert [tuple(pet.shape) for pet in pets] == [(2, 1, 20, 12)] * stages


def test_one_stage_is_exactly_one_unet() -> None:
    cascade = Cascade(tiny())
    unet = UNet(base_channels=2, depth=2)
    unet.load_state_dict(cascade.stages[0].state_dict())
    ct = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(cascade(ct)[0], unet(ct), rtol=0, atol=0)
    assert count_parameters(cascade) == count_parameters(unet)


def test_stage_two_sees_the_ct_and_the_pet_of_stage_one() -> None:
    cascade = Cascade(tiny(stages=2, context_slices=3))
    ct = torch.rand(1, 3, 16, 16)
    first, second = cascade(ct)
    torch.testing.assert_close(cascade.stages[1](torch.cat([ct, first], dim=1)), second, rtol=0, atol=0)


def test_residual_stages_begin_as_the_first_stage() -> None:
    pets = Cascade(tiny(stages=3, residual_stages=True))(torch.rand(1, 1, 16, 16))
    torch.testing.assert_close(pets[2], pets[0], rtol=0, atol=0)


@pytest.mark.parametrize("size", [(17, 30), (16, 16), (1, 1), (33, 8)])
def test_any_size_is_accepted(size: tuple[int, int]) -> None:
    assert Cascade(tiny())(torch.zeros(1, 1, *size))[0].shape[-2:] == size


def test_padding_is_air_on_the_right_and_below() -> None:
    cascade = Cascade(tiny())
    ct = torch.rand(1, 1, 13, 14)
    padded = torch.zeros(1, 1, 16, 16)
    padded[..., :13, :14] = ct
    torch.testing.assert_close(cascade(ct)[0], cascade(padded)[0][..., :13, :14], rtol=0, atol=0)


def test_every_parameter_has_a_gradient() -> None:
    cascade = Cascade(tiny(stages=3, context_slices=3, normalization="instance"))
    sum(pet.square().mean() for pet in cascade(torch.rand(2, 3, 16, 16))).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in cascade.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": 0}, "stages must be 1 to 6"),
        ({"stages": 7}, "stages must be 1 to 6"),
        ({"context_slices": 4}, "odd"),
        ({"base_channels": 0}, "base_channels must be 1 to 512"),
        ({"normalization": "layer"}, "none, batch, instance, group"),
    ],
)
def test_impossible_networks_are_rejected(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny(**settings)


def test_the_context_step_follows_the_distance_in_millimetres() -> None:
    config = tiny(context_slices=3, context_spacing_mm=3.0)
    assert [config.context_step(mm) for mm in (0.7, 1.0, 3.27, 5.0)] == [4, 3, 1, 1]


def test_the_detail_is_a_second_copy_of_the_context_with_soft_tissue_stretched() -> None:
    config = tiny(context_slices=3, detail_low=0.425, detail_high=0.625)  # -150 to 250 HU of -1000 to 1000
    cascade = Cascade(config)
    seen: list[torch.Tensor] = []
    cascade.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ct = torch.tensor([0.0, 0.425, 0.5, 0.625]).repeat(3, 4, 1)[None]
    cascade(ct)
    assert seen[0].shape == (1, 6, 4, 4)
    torch.testing.assert_close(seen[0][0, :3], ct[0])
    torch.testing.assert_close(seen[0][0, 3:, 0], torch.tensor([0.0, 0.0, 0.375, 1.0]).repeat(3, 1))


def test_the_detail_separates_values_that_bfloat16_rounds_to_one() -> None:
    cascade = Cascade(tiny(detail_low=0.425, detail_high=0.625))
    seen: list[torch.Tensor] = []
    cascade.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].bfloat16()))
    muscle, tumour = (torch.full((1, 1, 4, 4), (hu + 1000) / 2000) for hu in (53.0, 56.0))
    cascade(muscle), cascade(tumour)
    assert (seen[0][:, 0] == seen[1][:, 0]).all()  # 3 HU are less than a step of bfloat16 there
    assert (seen[0][:, 1] < seen[1][:, 1]).all()


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.6, 0.4), (0.2, 1.1), (-0.1, 0.5)])
def test_a_detail_outside_the_unit_range_is_rejected(low: float, high: float) -> None:
    with pytest.raises(RecipeError, match=r"detail_low must be below network\.detail_high"):
        tiny(detail_low=low, detail_high=high)


def test_flops_count_the_detail() -> None:
    config = tiny(stages=2, context_slices=3, detail_low=0.4, detail_high=0.6)
    with FlopCounterMode(display=False) as counter:
        Cascade(config)(torch.zeros(1, 3, 16, 16))
    assert forward_flops(config, rows=16, columns=16) == counter.get_total_flops()
