"""OpenVINO, Intel's inference library for CPUs: the only module that imports it; it is optional.

The graph is built layer by layer from the folded weights, which takes milliseconds; converting the traced network
takes seconds. Slices of a batch are independent requests on as many streams as there are threads, so that small
networks use all cores, and a slice's PET does not depend on the others.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.networks.cascade import Cascade
from lib.networks.ensemble import members_of
from lib.networks.precision import NumberFormat
from lib.networks.runtimes.folded import fold_batch_norm
from lib.networks.unet import UNet
from lib.types import FloatArray

if TYPE_CHECKING:
    from openvino import Node

HINTS: dict[NumberFormat, str] = {"float32": "f32", "bfloat16": "bf16"}
SUPPORTED_NORMALIZATIONS = ("none", "batch")  # those that fold into convolutions


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoRuntime:
    """A cascade compiled by OpenVINO for the CPU, for slices of any size."""

    name = "openvino"

    def __init__(self, cascade: Cascade, number_format: NumberFormat) -> None:
        import openvino

        self.config = cascade.config
        self.number_format = number_format
        threads = torch.get_num_threads()
        compiled = openvino.Core().compile_model(
            _graph(fold_batch_norm(cascade)),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": HINTS[number_format],
                "NUM_STREAMS": threads,
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,  # a second process would be pinned to the same cores
            },
        )
        self._queue = openvino.AsyncInferQueue(compiled, threads)
        self._in_use = threading.Lock()  # the queue has one callback

    def __call__(self, ct: Tensor) -> list[Tensor]:
        """Return every stage's PET, see `SliceNetwork`."""
        rows, columns = ct.shape[-2:]
        step = 2**self.config.depth
        padded = np.pad(ct.numpy(), ((0, 0), (0, 0), (0, -rows % step), (0, -columns % step)))
        pets = np.empty((self.config.stages, len(ct), 1, *padded.shape[-2:]), dtype=np.float32)
        with self._in_use:
            self._queue.set_callback(lambda request, index: _collect(request, pets[:, index]))
            for index, image in enumerate(padded):
                self._queue.start_async([image[None]], userdata=index)
            self._queue.wait_all()
        return [torch.from_numpy(pet[..., :rows, :columns]) for pet in pets]


def _collect(request: Any, pets: FloatArray) -> None:
    for stage, tensor in enumerate(request.output_tensors):
        pets[stage] = tensor.data[0]


def _graph(cascade: Cascade) -> Any:
    """Return the OpenVINO model of a folded cascade or ensemble: (N, context, R, C) to every stage's mean PET."""
    from openvino import Model, PartialShape, Type, opset13

    config = cascade.config
    ct = opset13.parameter(PartialShape([-1, config.context_slices, -1, -1]), Type.f32, name="ct")
    channels: Node = ct
    if config.detail_high:
        stretched = opset13.multiply(
            opset13.subtract(ct, np.float32(config.detail_low)),
            np.float32(1 / (config.detail_high - config.detail_low)),
        )
        channels = opset13.concat([ct, opset13.clamp(stretched, 0.0, 1.0)], 1)
    by_member = [_stages(channels, member, residual=config.residual_stages) for member in members_of(cascade)]
    return Model([_mean(pets) for pets in zip(*by_member, strict=True)], [ct])


def _stages(channels: Node, cascade: Cascade, *, residual: bool) -> list[Node]:
    from openvino import opset13

    pets: list[Node] = []
    for stage in cascade.stages:
        assert isinstance(stage, UNet)
        if not pets:
            pet = _unet(channels, stage)
        else:
            pet = _unet(opset13.concat([channels, pets[-1]], 1), stage)
            if residual:
                pet = opset13.add(pets[-1], pet)
        pets.append(pet)
    return pets


def _unet(image: Node, unet: UNet) -> Node:
    from openvino import opset13

    levels = [_layers(image, unet.encoders[0])]
    for encoder in unet.encoders[1:]:
        pooled = opset13.max_pool(levels[-1], [2, 2], [1, 1], [0, 0], [0, 0], [2, 2])
        levels.append(_layers(pooled.output(0), encoder))
    features = levels.pop()
    for upsampler, decoder in zip(unet.upsamplers, unet.decoders, strict=True):
        features = _layers(opset13.concat([levels.pop(), _layers(features, upsampler)], 1), decoder)
    return _layers(features, unet.head)


def _layers(features: Node, layers: nn.Module) -> Node:
    """Return the features after a layer, or after a sequence of them."""
    from openvino import opset13

    if isinstance(layers, nn.Sequential):
        for layer in layers:
            features = _layers(features, layer)
        return features
    if isinstance(layers, nn.ReLU):
        return opset13.relu(features)
    assert isinstance(layers, nn.Conv2d | nn.ConvTranspose2d) and layers.bias is not None
    weight, bias = layers.weight.detach().numpy(), layers.bias.detach().numpy().reshape(1, -1, 1, 1)
    if isinstance(layers, nn.ConvTranspose2d):
        features = opset13.convolution_backprop_data(features, weight, [2, 2], pads_begin=[0, 0], pads_end=[0, 0])
    else:
        pad = [size // 2 for size in layers.kernel_size]
        features = opset13.convolution(features, weight, [1, 1], pad, pad, [1, 1])
    return opset13.add(features, bias)


def _mean(pets: tuple[Node, ...]) -> Node:
    from openvino import opset13

    total = pets[0]
    for pet in pets[1:]:
        total = opset13.add(total, pet)
    return total if len(pets) == 1 else opset13.multiply(total, np.float32(1 / len(pets)))
