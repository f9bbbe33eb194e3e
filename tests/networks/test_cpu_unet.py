"""The forms of a U-Net for a CPU have the values of the U-Net."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lib.networks.precision import NumberFormat
from lib.networks.runtimes.cpu_unet import CpuUNets
from lib.networks.unet import Normalization, UNet

FLOAT32 = 2e-6
BFLOAT16 = 0.02


def unets(count: int, *, base_channels: int = 8, depth: int = 2, normalization: Normalization = "none") -> list[UNet]:
    torch.manual_seed(0)
    return [UNet(base_channels, depth, in_channels=3, normalization=normalization).eval() for _ in range(count)]


def results(networks: Sequence[UNet], image: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([unet(image) for unet in networks], dim=1)


def image_of(rows: int, columns: int) -> Tensor:
    return torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("base_channels", "depth"), [(4, 1), (8, 2), (8, 3), (12, 2)])
def test_each_unet_has_its_own_result(count: int, base_channels: int, depth: int) -> None:
    networks, image = unets(count, base_channels=base_channels, depth=depth), image_of(24, 40)
    expected = results(networks, image)
    with torch.inference_mode():
        found = CpuUNets(networks, "float32", last="float32").to(memory_format=torch.channels_last)(image)  # type: ignore[call-overload]
    torch.testing.assert_close(found, expected, atol=FLOAT32, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("last", ["bfloat16", "float32"])
@pytest.mark.parametrize("base_channels", [4, 8, 12, 16])  # features of 8, 16, 24 and 32 bytes
def test_bfloat16_differs_by_its_rounding(count: int, last: NumberFormat, base_channels: int) -> None:
    networks, image = unets(count, base_channels=base_channels), image_of(24, 40)
    expected = results(networks, image)
    converted = CpuUNets(networks, "bfloat16", last=last).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        found = converted(image.to(torch.bfloat16))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=BFLOAT16, rtol=0.02)


@pytest.mark.parametrize("normalization", ["instance", "group", "batch"])
@pytest.mark.parametrize(("number_format", "tolerance"), [("float32", FLOAT32), ("bfloat16", BFLOAT16)])
def test_a_single_unet_may_have_normalisation_layers(
    normalization: Normalization, number_format: NumberFormat, tolerance: float
) -> None:
    networks, image = unets(1, normalization=normalization), image_of(16, 16)
    expected = results(networks, image)
    with torch.inference_mode():
        found = CpuUNets(networks, number_format, last=number_format)(image.to(getattr(torch, number_format)))
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
