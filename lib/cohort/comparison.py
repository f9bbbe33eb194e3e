"""Numbers of one synthetic PET: its SUV, and its metrics against the real PET."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from lib.imaging.field_of_view import mask_unmeasured
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard

MEASURED: frozenset[Literal["ssim"]] = frozenset({"ssim"})  # MS-SSIM and VIF take longer than the network
SUV_EDGES = tuple(float(edge) for edge in (*np.arange(0, 5, 0.25), *range(5, 11), 12, 15, 20))


def suv_statistics(pet: Volume) -> dict[str, float]:
    """Return mean and maximum of the SUVbw."""
    return {"mean": float(pet.array.mean(dtype=np.float64)), "max": float(pet.array.max())}


def suv_histogram(pet: Volume) -> tuple[int, ...]:
    """Return the number of voxels from each edge of `SUV_EDGES` to the next; the last bin is open."""
    counts = np.zeros(len(SUV_EDGES), dtype=np.int64)
    edges = np.array(SUV_EDGES, dtype=np.float32)
    for slice_ in pet.array:  # one slice at a time, since the indices take twice the memory of the volume
        bins = np.searchsorted(edges, slice_.ravel(), side="right") - 1
        counts += np.bincount(np.maximum(bins, 0), minlength=len(edges))
    return tuple(int(count) for count in counts)


def measure_against(real: Volume, synthetic: Volume, ct: Volume, card: ModelCard) -> dict[str, Any]:
    """Return the metrics of the model and of the baselines against the real PET, by method.

    Args:
        real: SUVbw, on its own grid.
        synthetic: SUVbw, on the CT's grid.
        ct: HU.
        card: Of the model.

    Raises:
        InputError: They cannot be compared, or the card has no baselines.
    """
    from lib.evaluation.slice_metrics import card_baselines, compare, place  # imports MONAI, which takes seconds

    card_baselines(card)  # fail early
    placed = place(synthetic, ct=ct, grid=card.recipe.grid)
    return compare(placed.with_real(mask_unmeasured(real)), card, groups=MEASURED).as_json()
