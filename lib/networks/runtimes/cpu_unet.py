"""Folded U-Nets as a CPU runs them fastest: the same layers, in forms for which PyTorch has fast code.

- In bfloat16 a transposed convolution without overlap is a pointwise one whose channels are spread over four pixels.
- Pooling is two maxima.
- Features of 16 bytes a pixel are concatenated as whole pixels.
- A narrow first level is computed for two U-Nets at once, because its channels fill half of a vector register.

`scripts/benchmark runtime` measures them; docs/decisions/0063 has what each gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from lib.networks.precision import NumberFormat
from lib.networks.unet import UNet

PIXEL_TYPE = torch.complex128  # of 16 bytes

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class CpuUNets(nn.Module):
    """U-Nets of one shape that see the same image, without gradients, channels-last.

    Args:
        unets: Their layers are shared or replaced. Several only without normalisation layers.
        number_format: Of all layers but the last two.
        last: Number format of the last 3x3 convolution; the head after it is in float32.
    """

    def __init__(self, unets: Sequence[UNet], number_format: NumberFormat, *, last: NumberFormat) -> None:
        super().__init__()
        decoders = [_layers(unet.decoders[-1]) for unet in unets]
        self.encoder = _side_by_side([_layers(unet.encoders[0]) for unet in unets], same_input=True)
        self.lower_levels = nn.ModuleList(_LowerLevels(unet, number_format) for unet in unets)
        self.decoders = nn.ModuleList(nn.Sequential(*layers[:-2]) for layers in decoders)
        self.to(getattr(torch, number_format))
        self.last_type: torch.dtype = getattr(torch, last)
        self.last = _side_by_side([layers[-2:] for layers in decoders], same_input=False).to(self.last_type)
        self.head = _head([unet.head for unet in unets])

    def forward(self, image: Tensor) -> Tensor:
        """Return the result of each U-Net, (N, U-Nets, R, C), from (N, in_channels, R, C); see `UNet.forward`."""
        count = len(self.lower_levels)
        top = self.encoder(image)
        each = zip(
            top.chunk(count, dim=1),
            _largest_of_four(top).chunk(count, dim=1),
            self.lower_levels, self.decoders, strict=True,
        )  # fmt: skip
        decoded = [decoder(_concatenated(skip, lower(pooled))) for skip, pooled, lower, decoder in each]
        features = self.last(_joined(decoded).to(self.last_type)).permute(0, 2, 3, 1)
        results: Tensor = self.head(features.float()).permute(0, 3, 1, 2)
        return results


class _LowerLevels(nn.Module):
    """A U-Net below its first level: from the pooled features to those that are concatenated with the first level."""

    def __init__(self, unet: UNet, number_format: NumberFormat) -> None:
        super().__init__()
        *upsamplers, last = [
            _pointwise(layer) if number_format == "bfloat16" else layer
            for layer in unet.upsamplers
            if isinstance(layer, nn.ConvTranspose2d)
        ]
        self.encoders = unet.encoders[1:]
        self.upsamplers = nn.ModuleList(upsamplers)
        self.decoders = unet.decoders[:-1]
        self.last = last

    def forward(self, features: Tensor) -> Tensor:
        """Return the second argument of `_concatenated` from (N, channels, R / 2, C / 2)."""
        levels = [self.encoders[0](features)]
        for encoder in self.encoders[1:]:
            levels.append(encoder(_largest_of_four(levels[-1])))
        features = levels.pop()
        for upsample, decoder in zip(self.upsamplers, self.decoders, strict=True):
            features = decoder(_concatenated(levels.pop(), upsample(features)))
        enlarged: Tensor = self.last(features)
        return enlarged


def _layers(part: nn.Module) -> list[nn.Module]:
    assert isinstance(part, nn.Sequential)
    return list(part)


def _side_by_side(parts: Sequence[Sequence[nn.Module]], *, same_input: bool) -> nn.Sequential:
    """Return the layers of several networks as one: their channels are computed at once, one network after another.

    Args:
        parts: Convolutions and activations; a single network may have any layers.
        same_input: The first layer has one input for all networks, not one for each.
    """
    if len(parts) == 1:
        return nn.Sequential(*parts[0])
    merged: list[nn.Module] = []
    for layers in zip(*parts, strict=True):
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        groups = 1 if same_input and not merged else len(parts)
        merged.append(_grouped(convolutions, groups) if convolutions else layers[0])
    return nn.Sequential(*merged)


def _grouped(convolutions: Sequence[nn.Conv2d], groups: int) -> nn.Conv2d:
    """Return one convolution for several, each with a group of its channels or, for one group, with all of them."""
    first = convolutions[0]
    return _convolution(
        torch.cat([layer.weight for layer in convolutions]),
        torch.cat([_bias(layer) for layer in convolutions]),
        (first.in_channels * groups, first.out_channels * len(convolutions)),
        groups=groups,
    )


def _pointwise(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """Return the convolution whose channels are those of the four pixels (row, column) that a pixel becomes."""
    before, after = layer.in_channels, 4 * layer.out_channels
    weight = layer.weight.permute(2, 3, 1, 0).reshape(after, before, 1, 1)
    return _convolution(weight, _bias(layer).repeat(4), (before, after))


def _head(heads: Sequence[nn.Conv2d]) -> nn.Linear:
    """Return the pointwise convolutions of several networks as one layer for channels that come last."""
    weight = torch.block_diag(*(head.weight.flatten(start_dim=1) for head in heads))
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    return _with_weights(layer, weight, torch.cat([_bias(head) for head in heads]))


def _convolution(weight: Tensor, bias: Tensor, channels: tuple[int, int], *, groups: int = 1) -> nn.Conv2d:
    size = weight.shape[-1]
    with torch.device("meta"):
        layer = nn.Conv2d(*channels, kernel_size=size, padding=size // 2, groups=groups)
    return _with_weights(layer, weight, bias)


def _with_weights(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """Return a layer that was made without memory (on the device `meta`) with its weights."""
    layer.weight, layer.bias = (nn.Parameter(values, requires_grad=False) for values in (weight, bias))
    return layer


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _largest_of_four(features: Tensor) -> Tensor:
    """Return the largest of 2 x 2 pixels, (N, channels, R / 2, C / 2); rows and columns are even."""
    rows = torch.maximum(features[:, :, ::2], features[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def _joined(parts: list[Tensor]) -> Tensor:
    """Return the channels of several features, one after another."""
    if len(parts) == 1:
        return parts[0]
    if not all(_is_one_value(part) for part in parts):
        return torch.cat(parts, dim=1)
    count, channels, rows, columns = parts[0].shape
    joined = parts[0].new_empty(count, rows, columns, len(parts) * channels)
    for index, part in enumerate(parts):
        joined.view(PIXEL_TYPE)[..., index] = _pixels(part)[..., 0]
    return joined.permute(0, 3, 1, 2)


def _concatenated(skip: Tensor, below: Tensor) -> Tensor:
    """Return the features of the skip connection, and after them those of the level below.

    Args:
        skip: (N, channels, R, C).
        below: The same, or (N, 4 channels, R / 2, C / 2): of the four pixels (row, column) that a pixel becomes.
    """
    count, channels, rows, columns = skip.shape
    if below.shape[1] == channels:
        return torch.cat([skip, below], dim=1)
    if _is_one_value(skip):
        both = skip.new_empty(count, rows, columns, 2 * channels)
        pixels, four = both.view(PIXEL_TYPE), _pixels(below)  # (N, R, C, 2), (N, R / 2, C / 2, 4)
        pixels[..., 0] = _pixels(skip)[..., 0]
        for part in range(4):
            pixels[:, part // 2 :: 2, part % 2 :: 2, 1] = four[..., part]
        return both.permute(0, 3, 1, 2)
    two_rows = below.permute(0, 2, 3, 1).reshape(count, rows // 2, columns // 2, 2, 2 * channels).transpose(2, 3)
    enlarged = two_rows.reshape(count, rows, columns, channels).permute(0, 3, 1, 2)
    return torch.cat([skip, enlarged], dim=1)


def _is_one_value(features: Tensor) -> bool:
    """Return whether the features of a pixel can be copied as one value."""
    return features.shape[1] * features.element_size() == PIXEL_TYPE.itemsize


def _pixels(features: Tensor) -> Tensor:
    """Return (N, R, C, values of `PIXEL_TYPE`)."""
    if features.stride(1) != 1:  # a normalisation layer returns channels first
        features = features.contiguous(memory_format=torch.channels_last)
    return features.permute(0, 2, 3, 1).view(PIXEL_TYPE)
