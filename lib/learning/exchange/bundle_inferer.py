"""Apply a CT-to-PET network slice by slice, with neighbouring slices as context. Needs torch and MONAI only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import Inferer
from torch import Tensor


class ContextSliceInferer(Inferer):
    """Resample each axial slice, predict its PET from the slice and its neighbours, and resample the PET back.

    Args:
        context_slices: Number of slices that the network takes, odd.
        context_spacing_mm: Distance between them, rounded to a number of slices, at least 1.
        pixel_mm: Pixel size of the network; None if `size` is given.
        size: Rows and columns of the network; None if `pixel_mm` is given.
    """

    def __init__(
        self, context_slices: int, context_spacing_mm: float, pixel_mm: float | None = None, size: int | None = None
    ) -> None:
        super().__init__()
        self.context_slices = context_slices
        self.context_spacing_mm = context_spacing_mm
        self.pixel_mm = pixel_mm
        self.size = size

    def __call__(self, inputs: Any, network: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Return SUVbw of the same shape as `inputs`.

        Args:
            inputs: MetaTensor (1, 1, X, Y, Z) in HU; X toward Left, Y toward Posterior, Z toward Superior.
            network: (1, context_slices, rows, columns) in HU to (1, 1, rows, columns) SUVbw.
        """
        ct_hu = inputs.as_tensor()[0, 0].permute(2, 1, 0).float()  # (slices, rows, columns)
        column_mm, row_mm, slice_mm = (float(spacing) for spacing in inputs.pixdim[0])
        count, rows, columns = ct_hu.shape
        coarse = _resample(ct_hu, self._network_size(rows, columns, row_mm, column_mm))
        step, half = max(1, round(self.context_spacing_mm / slice_mm)), self.context_slices // 2
        pet = torch.empty_like(ct_hu)
        for index in range(count):
            context = [min(max(index + offset * step, 0), count - 1) for offset in range(-half, half + 1)]
            pet[index] = _resample(network(coarse[context][None])[0], (rows, columns))[0]
        result = torch.zeros_like(inputs, dtype=torch.float32)
        result[0, 0] = pet.permute(2, 1, 0)
        return result

    def _network_size(self, rows: int, columns: int, row_mm: float, column_mm: float) -> tuple[int, int]:
        if self.pixel_mm is None:
            assert self.size is not None
            return self.size, self.size
        return max(1, round(rows * row_mm / self.pixel_mm)), max(1, round(columns * column_mm / self.pixel_mm))


def _resample(slices: Tensor, size: tuple[int, int]) -> Tensor:
    """Return slices (K, rows, columns) resampled to another size with the same outer edges."""
    if tuple(slices.shape[1:]) == size:
        return slices
    return F.interpolate(slices[:, None], size, mode="bilinear", align_corners=False, antialias=True)[:, 0]
