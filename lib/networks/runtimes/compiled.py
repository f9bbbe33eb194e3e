"""The folded network compiled by `torch.compile`; on CUDA with CUDA graphs. Compiling takes minutes, so it is chosen
by name only."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.networks.cascade import Cascade
from lib.networks.precision import NumberFormat
from lib.networks.runtimes.folded import FoldedRuntime


class CompiledRuntime(FoldedRuntime):
    """A folded cascade, compiled once for each size of slices."""

    name = "compiled"

    def __init__(self, cascade: Cascade, number_format: NumberFormat, device: torch.device) -> None:
        super().__init__(cascade, number_format)
        mode = "reduce-overhead" if device.type == "cuda" else "default"  # the former uses CUDA graphs
        # for any size at once, torch 2.13 fails on the padding that an ensemble's networks share
        self._compiled = torch.compile(self._cascade, mode=mode, dynamic=False)

    def __call__(self, ct: Tensor) -> list[Tensor]:
        """Return every stage's PET, see `SliceNetwork`."""
        return [pet.clone() for pet in self._compiled(ct)]  # a CUDA graph overwrites its outputs when it runs again
