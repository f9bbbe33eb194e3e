"""Choose how a network is run: the fastest way whose results are close enough to float32.

Each candidate is compared with eager float32 on fixed images. The order of the candidates is fixed (`scripts/benchmark
runtime` measures it), not timed when a model is loaded: the same machine must give the same PET, also when it is busy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch

from lib.errors import RecipeError
from lib.imaging.normalize import Windows, denormalize_pet, normalize_ct
from lib.networks.cascade import Cascade
from lib.networks.precision import NumberFormat, Precision, has_bfloat16
from lib.networks.runtimes.check_images import check_ct_hu
from lib.networks.runtimes.compiled import CompiledRuntime
from lib.networks.runtimes.folded import FoldedRuntime
from lib.networks.runtimes.names import RuntimeName
from lib.networks.runtimes.openvino_runtime import SUPPORTED_NORMALIZATIONS, OpenVinoRuntime, has_openvino
from lib.networks.runtimes.runtime import EagerRuntime, Runtime
from lib.networks.slices import SliceNetwork
from lib.types import FloatArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChosenRuntime:
    """A runtime, and how far it is from eager float32.

    Attributes:
        network: The runtime, to be used like the network.
        difference_suv: Largest difference on the fixed images, SUVbw; 0 for the reference itself.
    """

    network: Runtime
    difference_suv: float

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
    """Return the first candidate within the limit; a requested one whatever its difference is.

    Args:
        network: On `device`, in evaluation mode.
        windows: Of its recipe.
        limit_suv: Largest allowed difference from eager float32 on the fixed images, SUVbw.
        name: The runtime; `auto` chooses.
        precision: The number format; `auto` allows bfloat16 where the hardware has it.

    Raises:
        RecipeError: An unknown runtime, or one that is not available for this network on this machine.
    """
    if name not in get_args(RuntimeName):
        raise RecipeError(f"runtime must be one of {', '.join(get_args(RuntimeName))}, found {name!r}")
    if not isinstance(network, Cascade):
        return _imported(network, name)
    reference = EagerRuntime(network)
    expected = _check_suv(reference, windows, device)
    for candidate in _candidates(network, name, precision, device):
        runtime = candidate()
        difference = float(np.abs(_check_suv(runtime, windows, device) - expected).max())
        if name != "auto" or difference <= limit_suv:
            chosen = ChosenRuntime(runtime, difference)
            logger.info(
                "runtime: %s, %s, %.4f SUV from float32 (limit %g)",
                runtime.name, runtime.number_format, difference, limit_suv,
            )  # fmt: skip
            return chosen
        logger.info(
            "runtime %s, %s refused: %.4f SUV from float32 (limit %g)",
            runtime.name, runtime.number_format, difference, limit_suv,
        )  # fmt: skip
    return ChosenRuntime(reference, 0.0)


def _imported(network: SliceNetwork, name: RuntimeName) -> ChosenRuntime:
    if name != "auto":
        raise RecipeError(f"an imported network runs with onnxruntime; set the runtime to auto, found {name!r}")
    return ChosenRuntime(EagerRuntime(network, name="onnxruntime"), 0.0)


def _candidates(
    cascade: Cascade, name: RuntimeName, precision: Precision, device: torch.device
) -> Iterator[Callable[[], Runtime]]:
    """Yield the candidates, the fastest first; they are built on demand."""
    formats: list[NumberFormat] = ["bfloat16", "float32"]
    if precision != "auto":
        formats = [precision]
    elif not has_bfloat16(device.type):
        formats = ["float32"]
    if name == "eager":
        yield lambda: EagerRuntime(cascade)
    elif name == "compiled":
        yield lambda: CompiledRuntime(cascade, formats[0], device)
    elif name == "openvino":
        _require_openvino(cascade, device)
        yield lambda: OpenVinoRuntime(cascade, formats[0])
    elif name == "folded":
        yield lambda: FoldedRuntime(cascade, formats[0])
    else:
        for number_format in formats:
            if _openvino_problem(cascade, device) is None:
                yield lambda form=number_format: OpenVinoRuntime(cascade, form)  # type: ignore[misc]
            if number_format == "bfloat16" or device.type == "cuda" or _openvino_problem(cascade, device) is not None:
                yield lambda form=number_format: FoldedRuntime(cascade, form)  # type: ignore[misc]


def _require_openvino(cascade: Cascade, device: torch.device) -> None:
    if (problem := _openvino_problem(cascade, device)) is not None:
        raise RecipeError(f"runtime openvino: {problem}")


def _openvino_problem(cascade: Cascade, device: torch.device) -> str | None:
    if not has_openvino():
        return "not installed; install what requirements-openvino.txt lists"
    if device.type != "cpu":
        return f"runs on the CPU, not on {device}; choose another, or the CPU"
    if cascade.config.normalization not in SUPPORTED_NORMALIZATIONS:
        return f"cannot run {cascade.config.normalization} normalisation; use eager or folded"
    return None


def _check_suv(runtime: Runtime, windows: Windows, device: torch.device) -> FloatArray:
    """Return the last stage's PET of the fixed images, SUVbw."""
    ct_hu = check_ct_hu(runtime.config.context_slices)
    batch = torch.from_numpy(normalize_ct(ct_hu, windows)).to(device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        pet = runtime(batch)[-1].float().cpu().numpy()
    return denormalize_pet(pet, windows)
