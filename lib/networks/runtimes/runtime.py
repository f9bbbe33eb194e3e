"""What a runtime is: a network that predicts slices in its own way and number format."""

from __future__ import annotations

from typing import Protocol

import torch

from lib.networks.precision import NumberFormat
from lib.networks.slices import SliceNetwork


class Runtime(SliceNetwork, Protocol):
    """A `SliceNetwork` that is ready to run: it takes and returns float32, whatever it computes in.

    The PET of a slice is the same, bit for bit, whatever other slices are in its batch.
    """

    @property
    def name(self) -> str:
        """One of `RuntimeName`, or `onnxruntime` for an imported network."""

    @property
    def number_format(self) -> NumberFormat:
        """What most of it computes in."""


class EagerRuntime:
    """The network as PyTorch runs it, in float32: the reference that the others are compared with."""

    number_format: NumberFormat = "float32"

    def __init__(self, network: SliceNetwork, *, name: str = "eager") -> None:
        self.name = name  # that of an imported network's own runtime
        self.config = network.config
        self._network = network

    def __call__(self, ct: torch.Tensor) -> list[torch.Tensor]:
        """Return every stage's PET, see `SliceNetwork`."""
        return self._network(ct)
