"""Estimate the memory that an inference needs from headers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct2pet_app.datastore.ct_source import OpenedCT
from ct2pet_app.inference.request import InferOptions
from lib.errors import MemoryLimitError
from lib.evaluation.slice_metrics import comparison_bytes
from lib.imaging.files.memory_estimate import volume_bytes
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.imaging.orientation import VoxelOrder, canonical_geometry
from lib.learning.model_card.card import ModelCard
from lib.memory import MemoryBudget
from lib.synthesis.memory import synthesis_bytes

STATISTICS_SHARE = 20  # the 99th percentile keeps a hundredth of the voxels, a few times


@dataclass(frozen=True)
class MemoryNeed:
    """The memory that an inference needs.

    Attributes:
        synthesis_bytes: Peak until the result is written.
        metrics_bytes: Peak of the comparison with the real PET, which comes later; 0 if there is none.
        what: Description for messages.
    """

    synthesis_bytes: int
    metrics_bytes: int
    what: str

    @property
    def peak_bytes(self) -> int:
        """The larger of the two peaks."""
        return max(self.synthesis_bytes, self.metrics_bytes)


def memory_need(
    opened: OpenedCT,
    options: InferOptions,
    card: ModelCard,
    *,
    geometry: Geometry | None = None,
    pet_shape: tuple[int, int, int] | None = None,
    weights_bytes: int = 0,
) -> MemoryNeed:
    """Return the memory that an inference needs.

    Args:
        opened: The CT.
        options: Of the request.
        card: Of the model.
        geometry: Of the CT, if it is known; otherwise the network's pixel size is assumed.
        pet_shape: Of the real PET to compare with; None for no comparison.
        weights_bytes: Of a model that is loaded for this request alone.

    Raises:
        InputError: The slices are outside the CT, or would take hours to compute.
    """
    ct = geometry or opened.geometry or _with_pixels_of(card.recipe.grid, opened.shape)
    order, canonical = VoxelOrder.of(ct), canonical_geometry(ct)
    axial, *_ = order.box(options.slices or slice(None))
    slices = axial.stop - axial.start
    maps = 1 if options.uncertainty == "no" else 2
    grid, network = card.recipe.grid, card.network
    needed = synthesis_bytes(canonical, slices, grid=grid, network=network, maps=maps)
    needed += volume_bytes(ct.shape) // STATISTICS_SHARE
    metrics = 0
    if pet_shape is not None:
        result = slices * volume_bytes(canonical.shape[1:])
        reoriented = 0 if order.axes == (0, 1, 2) and not any(order.flipped) else volume_bytes(ct.shape) + result
        placing = result + reoriented + 3 * slices * volume_bytes(grid.on(canonical).shape[1:])
        comparing = comparison_bytes(slices, ct=canonical, grid=grid, pet_shape=pet_shape)
        metrics = volume_bytes(ct.shape) + max(placing, comparing) + weights_bytes
    shape = " x ".join(map(str, ct.shape[:0:-1]))
    what = f"the synthesis of {slices} of {ct.shape[0]} slices of {shape}"
    return MemoryNeed(max(needed, opened.read_bytes) + weights_bytes, metrics, what)


def metrics_too_large(needed: MemoryNeed, budget: MemoryBudget, *, alone: bool) -> str:
    """Return why a comparison with the real PET never fits into a budget; empty if it does."""
    try:
        budget.refuse_too_large(needed.metrics_bytes, "comparing it with the real PET", alone=alone)
        return ""
    except MemoryLimitError as error:
        return str(error)


def _with_pixels_of(grid: Grid, shape: tuple[int, int, int]) -> Geometry:
    pixel_mm = grid.pixel_mm or 1.0
    return Geometry(shape, np.diag([pixel_mm, pixel_mm, 1.0, 1.0]))
