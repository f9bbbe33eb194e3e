"""The network with its batch normalisation folded into the convolutions, in bfloat16 where the processor has it."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lib.networks.cascade import Cascade
from lib.networks.ensemble import CascadeEnsemble, members_of
from lib.networks.precision import NumberFormat
from lib.networks.runtimes.cpu_unet import CpuUNets
from lib.networks.unet import UNet

NARROW = 8  # channels of the first level, which fill half of a vector register

Module = TypeVar("Module", bound=nn.Module)


class FoldedRuntime:
    """A copy of a cascade with folded batch normalisation, channels-last, in one number format.

    In bfloat16 the head of each U-Net, the sum of the stages and the mean of the members stay in float32: rounding the
    PET itself would double the error. On a CPU the last 3x3 convolution may stay in float32 as well: that halves the
    error again, and takes 6 % more time.

    Args:
        cascade: In evaluation mode; it is not changed.
        number_format: Of the other layers.
        last: Number format of the last 3x3 convolution of each U-Net on a CPU; by default `number_format`.
    """

    name = "folded"

    def __init__(self, cascade: Cascade, number_format: NumberFormat, *, last: NumberFormat | None = None) -> None:
        self.config = cascade.config
        self.number_format = number_format
        self._cascade = fold_batch_norm(cascade)
        if self.name == "folded" and next(cascade.parameters()).device.type == "cpu":
            _for_cpu(self._cascade, number_format, last or number_format)  # a compiler finds forms of its own
        elif number_format == "bfloat16":
            _to_bfloat16(self._cascade)
        if number_format == "bfloat16":
            self._cascade.input_type = torch.bfloat16
        self._cascade = self._cascade.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, ct: Tensor) -> list[Tensor]:
        """Return every stage's PET, see `SliceNetwork`."""
        return self._cascade(ct)


def fold_batch_norm(cascade: Cascade) -> Cascade:
    """Return a copy in evaluation mode whose convolutions contain the batch normalisation that follows them.

    Weights that folding does not change are shared with the cascade; `copy.deepcopy` of ten networks takes 0.3 s.
    """
    return _copied(cascade).eval()


def _copied(module: Module) -> Module:
    """Return a copy whose parameters can be replaced or converted without a change of the module's own."""
    copied = copy.copy(module)
    copied._parameters = {
        name: None if weight is None else nn.Parameter(weight.detach(), requires_grad=False)
        for name, weight in module._parameters.items()
    }
    copied._buffers = dict(module._buffers)
    children = {name: child if child is None else _copied(child) for name, child in module._modules.items()}
    copied._modules = _folded(children) if isinstance(module, nn.Sequential) else children
    return copied


def _folded(layers: dict[str, nn.Module | None]) -> dict[str, nn.Module | None]:
    """Return the layers of a sequence, each batch normalisation in the convolution before it; changes the latter."""
    folded: list[nn.Module | None] = []
    for layer in layers.values():
        before = folded[-1] if folded else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            mean, variance = layer.running_mean, layer.running_var
            assert mean is not None
            assert variance is not None
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, mean, variance, layer.eps, layer.weight, layer.bias
            )
        else:
            folded.append(layer)
    return {str(number): layer for number, layer in enumerate(folded)}


def _for_cpu(cascade: Cascade, number_format: NumberFormat, last: NumberFormat) -> None:
    """Replace the U-Nets by faster forms; one of them stands for two members where that is faster still."""
    config, members = cascade.config, members_of(cascade)
    narrow = config.base_channels <= NARROW and number_format == "bfloat16"
    at_once = 2 if narrow and config.stages == 1 and config.normalization in ("none", "batch") else 1
    chains = [[stage for stage in single.stages if isinstance(stage, UNet)] for single in members]
    groups = [chains[start : start + at_once] for start in range(0, len(chains), at_once)]
    for single, group in zip(members, groups, strict=False):
        stages = zip(*group, strict=True)
        single.stages = nn.ModuleList(CpuUNets(unets, number_format, last=last) for unets in stages)
    if isinstance(cascade, CascadeEnsemble):
        cascade.members = cascade.members[: len(groups)]


def _to_bfloat16(cascade: Cascade) -> None:
    for stage in (stage for single in members_of(cascade) for stage in single.stages if isinstance(stage, UNet)):
        head, stage.head = stage.head, nn.Identity()  # type: ignore[assignment]  # it is only called
        stage.to(torch.bfloat16)
        stage.head = _Float32(head)  # type: ignore[assignment]


class _Float32(nn.Module):
    """A layer in float32 after layers in bfloat16."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """Return the layer's result for the features, float32."""
        result: Tensor = self._layer(features.float())
        return result
