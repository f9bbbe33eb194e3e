"""A cascade of U-Nets: stage 1 predicts the PET from the CT, further stages refine it from the CT and the last PET."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.errors import RecipeError
from lib.networks.unet import Normalization, UNet

MAX_STAGES = 6
MAX_MEMBERS = 32
MAX_BASE_CHANNELS = 512  # at depth 4: 2.0 billion weights a stage, 7.9 GB as float32; six stages 11.9 billion, 48 GB


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a cascade.

    Attributes:
        stages: 1 to 6 U-Nets in a chain; 1 is exactly one U-Net.
        base_channels: Width of each U-Net's first level.
        depth: Poolings of each U-Net.
        context_slices: CT slices that enter together, odd: the slice itself in the middle, neighbours around it.
        context_spacing_mm: Distance between those; rounded to a number of slices, at least 1.
        normalization: Between convolution and ReLU.
        residual_stages: Stage k > 1 adds a correction to the last PET, starting from none (zero-initialised).
        members: Number of cascades of this shape whose PETs are averaged (an ensemble); 1 is a single cascade.
        detail_low, detail_high: Every context slice enters a second time, with this part of the unit range stretched
            to 0..1, because soft tissue fills a fifth of the CT's window and bfloat16 has 8 bits. Both 0: off.
    """

    stages: int = 3
    base_channels: int = 32
    depth: int = 4
    context_slices: int = 1
    context_spacing_mm: float = 0.0
    normalization: Normalization = "none"
    residual_stages: bool = False
    detail_low: float = 0.0
    detail_high: float = 0.0
    members: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.stages <= MAX_STAGES:
            raise RecipeError(f"network.stages must be 1 to {MAX_STAGES}, found {self.stages}")
        if not 1 <= self.base_channels <= MAX_BASE_CHANNELS or not 1 <= self.depth <= 6:
            raise RecipeError(
                f"network.base_channels must be 1 to {MAX_BASE_CHANNELS} and network.depth 1 to 6, "
                f"found {self.base_channels} and {self.depth}"
            )
        if self.context_slices < 1 or self.context_slices % 2 == 0:
            raise RecipeError(f"network.context_slices must be odd (1, 3, 5, ...), found {self.context_slices}")
        if self.context_spacing_mm < 0:
            raise RecipeError(f"network.context_spacing_mm must be at least 0, found {self.context_spacing_mm}")
        if self.normalization not in get_args(Normalization):
            raise RecipeError(
                f"network.normalization must be one of {', '.join(get_args(Normalization))}, "
                f"found {self.normalization!r}"
            )

        if not 1 <= self.members <= MAX_MEMBERS:
            raise RecipeError(f"network.members must be 1 to {MAX_MEMBERS}, found {self.members}")
        if not (self.detail_low == self.detail_high == 0 or 0 <= self.detail_low < self.detail_high <= 1):
            raise RecipeError(
                "network.detail_low must be below network.detail_high, both from 0 to 1 (both 0: no detail), "
                f"found {self.detail_low} and {self.detail_high}"
            )

    @property
    def ct_channels(self) -> int:
        """Number of CT channels of each stage."""
        return self.context_slices * (2 if self.detail_high else 1)

    def context_step(self, slice_spacing_mm: float) -> int:
        """Return the step between context slices, in slices of a volume with this slice spacing."""
        return max(1, round(self.context_spacing_mm / slice_spacing_mm))


class Cascade(nn.Module):
    """1 to 6 U-Nets in a chain.

    Attributes:
        input_type: Number format to which the CT is converted once for all U-Nets; None to leave it as it is.
    """

    input_type: torch.dtype | None = None

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(
            UNet(
                config.base_channels,
                config.depth,
                in_channels=config.ct_channels + (1 if stage else 0),
                out_channels=1,
                normalization=config.normalization,
            )
            for stage in range(config.stages)
        )
        if config.residual_stages:
            for stage in self.stages[1:]:
                assert isinstance(stage, UNet)
                nn.init.zeros_(stage.head.weight)
                nn.init.zeros_(stage.head.bias)  # type: ignore[arg-type]

    def forward(self, ct: Tensor) -> list[Tensor]:
        """Return every stage's PET, each (N, 1, R, C), first stage first.

        Args:
            ct: (N, context_slices, R, C), unit range. Any size: it is padded with 0 (air) to a multiple of what the
                pooling needs, and the PET is cropped.
        """
        rows, columns = ct.shape[-2:]
        return [pet[..., :rows, :columns] for pet in self.predict(self.padded(ct))]

    def predict(self, padded: Tensor) -> list[Tensor]:
        """Return every stage's PET, each (N, 1, R', C'), from the result of `padded`."""
        pets: list[Tensor] = []
        for stage in self.stages:
            if not pets:
                pet = stage(padded)  # (N, 1, R', C')
            else:
                pet = stage(torch.cat([padded, pets[-1].to(padded.dtype)], dim=1))
                if self.config.residual_stages:
                    pet = pets[-1] + pet
            pets.append(pet)
        return pets

    def bottleneck(self, ct: Tensor) -> Tensor:
        """Return the deepest features of the first stage, (N, channels, R', C'), for the same input as `forward`."""
        first = self.stages[0]
        assert isinstance(first, UNet)
        return first.encode(self.padded(ct))[-1]

    def padded(self, ct: Tensor) -> Tensor:
        """Return the input of the first stage: with the detail channels, padded to a multiple of the pooling."""
        rows, columns = ct.shape[-2:]
        step = 2**self.config.depth
        if self.config.detail_high:
            ct = torch.cat([ct, self._detail(ct)], dim=1)
        padded = F.pad(ct, (0, -columns % step, 0, -rows % step))  # (N, channels, R', C')
        return padded if self.input_type is None else padded.to(self.input_type)

    def _detail(self, ct: Tensor) -> Tensor:
        """Return the stretched part of the unit range, before rounding to bfloat16."""
        low, high = self.config.detail_low, self.config.detail_high
        return ((ct - low) / (high - low)).clamp(0, 1)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def forward_flops(config: NetworkConfig, *, rows: int, columns: int) -> int:
    """Return the floating-point operations of the convolutions for one slice, with a multiply-add counted as 2.

    Rows and columns are those after padding. Biases, ReLU, pooling and normalisation are not counted.
    """
    total = 0
    for stage in range(config.stages):
        channels, pixels = config.ct_channels + (1 if stage else 0), rows * columns
        for level in range(config.depth + 1):
            width = config.base_channels * 2**level
            total += 2 * 9 * (channels * width + width * width) * (pixels // 4**level)
            channels = width
        for level in reversed(range(config.depth)):
            width = config.base_channels * 2**level
            level_pixels = pixels // 4**level
            total += 2 * (2 * width) * width * level_pixels  # 2x2, stride 2: each output pixel sees one input pixel
            total += 2 * 9 * (2 * width * width + width * width) * level_pixels
        total += 2 * config.base_channels * pixels
    return config.members * total
