"""The U-Net of the paper, one stage of a cascade."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Normalization = Literal["none", "batch", "instance", "group"]
GROUPS = 8  # channels are normalised in groups of base_channels / 8 or more (Wu and He 2018 use 32 of at least 64)


class UNet(nn.Module):
    """U-Net with `depth` pooling steps, as many transposed convolutions, and concatenated skip connections.

    Args:
        base_channels: Channels of the first level; they double at each step down.
        depth: Number of pooling steps (4 in the standard U-Net). Rows and columns must be multiples of 2**depth;
            `Cascade` pads the input.
        in_channels: Number of CT slices, plus 1 for the previous PET in later stages.
        out_channels: 1 for a PET.
        normalization: `none` as in the paper.

    Source: PAPER "Medical Image Synthesis from CT to PET using Convolutional Neural Network", the encoder and decoder
    paragraphs: two 3x3 convolutions each with ReLU, 2x2 max pooling with stride 2, 2x2 transposed convolution that
    halves the channels, concatenation with the skip, two 3x3 convolutions with ReLU.
    """

    def __init__(
        self,
        base_channels: int,
        depth: int,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        normalization: Normalization = "none",
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth + 1)]
        self.encoders = nn.ModuleList(
            _two_convolutions(before, after, normalization)
            for before, after in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.upsamplers = nn.ModuleList(
            nn.ConvTranspose2d(width * 2, width, kernel_size=2, stride=2) for width in reversed(widths[:-1])
        )
        self.decoders = nn.ModuleList(
            _two_convolutions(width * 2, width, normalization) for width in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(base_channels, out_channels, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return (N, out_channels, R, C) from (N, in_channels, R, C)."""
        *skips, features = self.encode(image)
        for upsample, decoder in zip(self.upsamplers, self.decoders, strict=True):
            features = decoder(torch.cat([skips.pop(), upsample(features)], dim=1))
        return self.head(features)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of each level, (N, base, R, C), (N, 2 base, R/2, C/2) and so on."""
        levels = [self.encoders[0](image)]
        for encoder in self.encoders[1:]:
            levels.append(encoder(self.pool(levels[-1])))
        return levels


def _two_convolutions(in_channels: int, out_channels: int, normalization: Normalization) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (in_channels, out_channels):
        layers.append(nn.Conv2d(before, out_channels, kernel_size=3, padding=1))
        if normalization != "none":
            layers.append(_normalization(normalization, out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _normalization(kind: Normalization, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(GROUPS if channels % GROUPS == 0 else 1, channels)
