"""The network with its batch normalisation folded into the convolutions, in bfloat16 where the processor has it."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lib.networks.cascade import Cascade
from lib.networks.ensemble import members_of
from lib.networks.precision import NumberFormat
from lib.networks.unet import UNet

Module = TypeVar("Module", bound=nn.Module)


class FoldedRuntime:
    """A copy of a cascade with folded batch normalisation, channels-last, in one number format.

    In bfloat16 the last convolution of each stage, the sum of the stages and the mean of the members stay in float32:
    rounding the PET itself would double the error.
    """

    name = "folded"

    def __init__(self, cascade: Cascade, number_format: NumberFormat) -> None:
        self.config = cascade.config
        self.number_format = number_format
        self._cascade = fold_batch_norm(cascade)
        if self.name == "folded":  # a compiler makes a pooling of its own
            _pool_by_maxima(self._cascade)
        if number_format == "bfloat16":
            _to_bfloat16(self._cascade)
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


def _pool_by_maxima(cascade: Cascade) -> None:
    for module in cascade.modules():
        if isinstance(module, UNet) and module.head.weight.device.type == "cpu":
            module.pool = _LargestOfFour()  # type: ignore[assignment]  # it is only called


class _LargestOfFour(nn.Module):
    """The pooling of a U-Net as two maxima: the same values in a quarter of the time that a CPU takes for its own.

    Not for training, since gradients are shared out differently where pixels are equal.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, channels, R / 2, C / 2); rows and columns are even."""
        rows = torch.maximum(features[:, :, ::2], features[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


class _Bfloat16UNet(nn.Module):
    """A U-Net in bfloat16 except for its last convolution, which takes and returns float32."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self._unet = unet.to(torch.bfloat16)
        self._unet.head = _Float32(unet.head)  # type: ignore[assignment]  # it is only called

    def forward(self, image: Tensor) -> Tensor:
        """Return (N, out_channels, R, C), float32."""
        pet: Tensor = self._unet(image.to(torch.bfloat16))
        return pet


class _Float32(nn.Module):
    """A layer in float32 after layers in bfloat16."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = layer.float()

    def forward(self, features: Tensor) -> Tensor:
        """Return the layer's result for the features, float32."""
        result: Tensor = self._layer(features.float())
        return result


def _to_bfloat16(cascade: Cascade) -> None:
    for member in members_of(cascade):
        member.stages = nn.ModuleList(_Bfloat16UNet(stage) for stage in member.stages if isinstance(stage, UNet))
