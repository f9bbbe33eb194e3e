"""Choose how a network is run: the fastest way whose results are close enough to float32.

Each candidate is compared with eager float32 inside the body of fixed images. The order of the candidates is fixed
(`scripts/benchmark runtime` measures it), not timed when a model is loaded: the same machine must give the same PET,
also when it is busy.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from lib.errors import RecipeError
from lib.imaging.normalize import Windows, denormalize_pet, normalize_ct
from lib.networks.at_once import compute_at_once, threads_at_once
from lib.networks.cascade import Cascade
from lib.networks.precision import NumberFormat, Precision, has_bfloat16
from lib.networks.runtimes.check_images import SIZE, body_of, check_ct_hu
from lib.networks.runtimes.compiled import CompiledRuntime
from lib.networks.runtimes.folded import FoldedRuntime
from lib.networks.runtimes.names import RuntimeName
from lib.networks.runtimes.runtime import EagerRuntime, Runtime
from lib.networks.slices import SliceNetwork
from lib.types import FloatArray

WHOLE_CT_RATIO = (
    1.2  # the largest difference in a whole CT, as a multiple of that in the fixed images: docs/decisions/0063
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChosenRuntime:
    """A runtime, and how far it is from eager float32.

    Attributes:
        network: The runtime, to be used like the network.
        difference_suv: Largest difference inside the body of the fixed images, SUVbw; 0 for the reference itself.
    """

    network: Runtime
    difference_suv: float

    def __str__(self) -> str:
        return f"{self.network.name}, {self.network.number_format}, {self.difference_suv:.4f} SUV from float32"

    def as_json(self) -> dict[str, str | float]:
        """Return name, number format and difference."""
        return {
            "name": self.network.name,
            "number_format": self.network.number_format,
            "difference_suv": round(self.difference_suv, 5),
        }


def choose_runtime(
    network: SliceNetwork,
    windows: Windows,
    *,
    device: torch.device,
    limit_suv: float,
    name: RuntimeName = "auto",
    precision: Precision = "auto",
) -> ChosenRuntime:
    """Return the fastest runtime within the limit; a requested runtime or number format whatever its difference is.

    Args:
        network: On `device`, in evaluation mode.
        windows: Of its recipe.
        limit_suv: Largest allowed difference from eager float32 inside the body of a CT, SUVbw; in the fixed images it
            has to be smaller by `WHOLE_CT_RATIO`.
        name: The runtime; `auto` chooses.
        precision: The number format; `auto` chooses, bfloat16 only where the hardware has it.

    Raises:
        RecipeError: An unknown runtime, or one that is not available for this network on this machine.
    """
    if name not in get_args(RuntimeName):
        raise RecipeError(f"runtime must be one of {', '.join(get_args(RuntimeName))}, found {name!r}")
    if not isinstance(network, Cascade):
        return _imported(network, name)
    comparison = _Comparison(network, windows, device)
    formats: list[NumberFormat] = ["bfloat16", "float32"] if has_bfloat16(device.type) else ["float32"]
    if precision != "auto":
        formats, limit_suv = [precision], math.inf
    if name != "auto":
        return comparison.of(_requested(network, name, formats[0], device))
    for candidate in _candidates(network, formats, device):
        folded = comparison.of(candidate)
        if folded.difference_suv * WHOLE_CT_RATIO <= limit_suv:
            return folded
        logger.debug("refused, since the limit is %g SUV: %s", limit_suv, folded)
    return comparison.of(EagerRuntime(network))


def _candidates(cascade: Cascade, formats: Sequence[NumberFormat], device: torch.device) -> Iterator[FoldedRuntime]:
    """Yield folded runtimes in these number formats, the fastest first."""
    for number_format in formats:
        yield FoldedRuntime(cascade, number_format)
        if number_format == "bfloat16" and device.type == "cpu":
            yield FoldedRuntime(cascade, number_format, last="float32")


class _Comparison:
    """Compares runtimes with eager float32 inside the body of the fixed images."""

    def __init__(self, cascade: Cascade, windows: Windows, device: torch.device) -> None:
        self._windows = windows
        ct_hu = check_ct_hu(cascade.config.context_slices)
        ct_unit = normalize_ct(ct_hu, windows)
        self._body = body_of(ct_hu)
        self._ct = torch.from_numpy(ct_unit).to(device).contiguous(memory_format=torch.channels_last)
        self._device = device
        self._reference = EagerRuntime(cascade)
        self._expected_suv: FloatArray | None = None

    def of(self, runtime: Runtime) -> ChosenRuntime:
        """Return a runtime with its difference."""
        if self._expected_suv is None:
            self._expected_suv, found_suv = self._computed(self._reference, runtime)
        else:
            (found_suv,) = self._computed(runtime)
        return ChosenRuntime(runtime, float(np.abs(found_suv - self._expected_suv).max()))

    def _computed(self, *runtimes: Runtime) -> list[FloatArray]:
        """Return the PETs of runtimes; on a CPU they run at once, so that a model is loaded sooner."""
        threads = threads_at_once(self._device, channels=1, rows=SIZE, columns=SIZE)
        if threads == 1 or any(runtime.name == "compiled" for runtime in runtimes):
            return [self._suv(runtime) for runtime in runtimes]
        return list(compute_at_once(self._suv, runtimes, threads=threads))

    def _suv(self, runtime: Runtime) -> FloatArray:
        """Return the SUV of each pixel of the body: a difference in the air around it is not seen, and often larger."""
        with torch.inference_mode():
            pet = runtime(self._ct)[-1].float().cpu().numpy()[:, 0]  # (N, R, C)
        return denormalize_pet(pet, self._windows)[self._body]


def _imported(network: SliceNetwork, name: RuntimeName) -> ChosenRuntime:
    if name != "auto":
        raise RecipeError(f"an imported network runs with onnxruntime; set the runtime to auto, found {name!r}")
    return ChosenRuntime(EagerRuntime(network, name="onnxruntime"), 0.0)


def _requested(cascade: Cascade, name: RuntimeName, number_format: NumberFormat, device: torch.device) -> Runtime:
    if name == "eager":
        return EagerRuntime(cascade)
    if name == "folded":
        return FoldedRuntime(cascade, number_format)
    return CompiledRuntime(cascade, number_format, device)
