"""The same weights in MONAI's `SliceInferer`, eager float32: what a user of MONAI would write."""

from __future__ import annotations

import numpy as np
import torch
from monai.inferers import SliceInferer

from lib.imaging.normalize import denormalize_pet, normalize_ct
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard
from lib.networks.cascade import Cascade
from lib.networks.slices import context_indices
from lib.types import FloatArray

NAME = "MONAI SliceInferer"
CUDA_BATCH = 16  # slices; 1 on the CPU, where more are not faster


class MonaiPeer:
    """A cascade in MONAI's inferer, applied to a CT on the network's grid."""

    def __init__(self, cascade: Cascade, card: ModelCard, *, device: torch.device) -> None:
        self._cascade = cascade.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._card = card
        self._device = device

    def apply(self, ct: Volume) -> FloatArray:
        """Return the PET, (K, R, C), SUVbw.

        Args:
            ct: On the network's grid, HU.
        """
        windows = self._card.recipe.windows
        unit = normalize_ct(ct.array, windows)
        contexts = [
            context_indices(k, len(unit), config=self._card.network, slice_spacing_mm=ct.geometry.spacing_mm[0])
            for k in range(len(unit))
        ]
        stack = np.stack([unit[context] for context in contexts], axis=1)[None]  # (1, context, K, R, C)
        batch = CUDA_BATCH if self._device.type == "cuda" else 1
        inferer = SliceInferer(roi_size=unit.shape[1:], spatial_dim=0, sw_batch_size=batch)
        with torch.inference_mode():
            pet = inferer(torch.from_numpy(stack).to(self._device), lambda slices: self._cascade(slices)[-1])
        return denormalize_pet(pet[0, 0].cpu().numpy(), windows)
