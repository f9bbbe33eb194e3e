"""An imported network with the interface of `Cascade`: CT in, PET out, both in the recipe's unit range."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from lib.errors import CheckpointError
from lib.imaging.normalize import Windows
from lib.networks.cascade import NetworkConfig
from lib.networks.external.axes import Axes
from lib.networks.external.onnx_runtime import OnnxSession, inspect_onnx
from lib.networks.external.settings import ExternalModel
from lib.types import FloatArray


class ExternalNetwork:
    """A `SliceNetwork` that runs an ONNX file on the CPU, one image at a time."""

    def __init__(self, content: bytes, settings: ExternalModel, *, config: NetworkConfig, windows: Windows) -> None:
        """Check and load an ONNX file.

        Args:
            content: The file.
            settings: How it is fed, and what its output means.
            config: Its context slices.
            windows: Of the model's recipe.

        Raises:
            CheckpointError: onnxruntime is not installed, the file is not the one of the settings, or not usable.
        """
        if hashlib.sha256(content).hexdigest() != settings.sha256:
            raise CheckpointError("the network in the file is not the one that its model card describes")
        self.config = config
        self._settings = settings
        self._windows = windows
        self._input_axes, self._output_axes = Axes(settings.input_axes), Axes(settings.output_axes)
        self._session = OnnxSession(content, inspect_onnx(content))

    def __call__(self, ct: Tensor) -> list[Tensor]:
        """Return one PET, (N, 1, R, C) in the unit range, 0 or above, as a list of one stage.

        Args:
            ct: (N, context_slices, R, C), unit range.

        Raises:
            CheckpointError: The network refuses images of this size, or its output has another size.
        """
        images = ct.detach().float().cpu().numpy()
        suv_bw = np.stack([self._suv_of(image) for image in images])[:, None]
        unit = np.maximum(suv_bw, 0) / self._windows.pet_high_suv
        if self._windows.pet_curve == "sqrt":
            unit = np.sqrt(unit)
        return [torch.from_numpy(unit.astype(np.float32)).to(ct.device)]

    def _suv_of(self, ct_unit: FloatArray) -> FloatArray:
        """Return the SUVbw (R, C) of context slices (S, R, C); 0 outside the frame."""
        settings = self._settings
        size = ct_unit.shape[1:]
        fed = settings.input_low + (settings.input_high - settings.input_low) * ct_unit
        framed = _frame(fed, settings.framed_size(*size), fill=settings.input_low)
        output = self._session.run(self._input_axes.from_canonical(framed))
        try:
            pets = self._output_axes.to_canonical(output)
        except ValueError as error:
            raise self._wrong_output(output.shape, framed.shape, str(error)) from error
        chosen = len(pets) // 2 if settings.output_slice is None else settings.output_slice
        if pets.shape[1:] != framed.shape[1:] or chosen >= len(pets):
            raise self._wrong_output(output.shape, framed.shape, f"slice {chosen} of that size is expected")
        return _frame(settings.to_suv(pets[chosen])[None], size, fill=0.0)[0]

    def _wrong_output(self, found: tuple[int, ...], framed: tuple[int, ...], reason: str) -> CheckpointError:
        return CheckpointError(
            f"the ONNX file is not usable: its output is {found} for {framed} slices, rows and columns, read as "
            f"{self._settings.output_axes}: {reason}; correct the axes, the output slice or the size",
            code="invalid_onnx",
        )


def _frame(slices: FloatArray, size: tuple[int, ...], *, fill: float) -> FloatArray:
    """Return (S, R, C) padded or cropped about its centre to another size (R, C)."""
    framed = np.full((len(slices), *size), fill, dtype=np.float32)
    source, target = [], []
    for have, want in zip(slices.shape[1:], size, strict=True):
        kept, first = min(have, want), abs(want - have) // 2
        source.append(slice(first, first + kept) if have > want else slice(kept))
        target.append(slice(first, first + kept) if want > have else slice(kept))
    framed[:, *target] = slices[:, *source]
    return framed
