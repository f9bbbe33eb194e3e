"""A synthetic PET beside the real one of the same study, and beside what trivial predictors draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lib.errors import PairingError
from lib.imaging.body import body_mask
from lib.imaging.field_of_view import mask_unmeasured
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.imaging.orientation import to_canonical
from lib.imaging.resample import resample_to
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard
from lib.learning.validation import measure_with_baselines
from lib.metrics.baselines import BASELINE_NAMES, Baselines
from lib.metrics.image import ALL_GROUPS, Group, ImageMetrics, measure_slices
from lib.types import BoolArray, FloatArray, Progress, no_progress

FLOAT32_BYTES = 4
COMPARED_VOLUMES = 8  # of the network's grid, float32: CT, both PETs, masks, a baseline's PET, three while they differ
SSIM_SLICES = 200  # of the network's grid: 16 slices at once, their means, variances and maps


def comparison_bytes(slices: int, *, ct: Geometry, grid: Grid, pet_shape: Sequence[int]) -> int:
    """Return the peak of a comparison with the real PET, beside the CT: aligned, then measured.

    Args:
        slices: Of the synthetic PET.
        ct: In canonical order.
        grid: Of the model's recipe.
        pet_shape: Of the real PET, (K, R, C).
    """
    pixels = math.prod(grid.on(ct).shape[1:])
    aligning = 2 * math.prod(pet_shape) + 5 * slices * pixels
    measuring = COMPARED_VOLUMES * slices * pixels + SSIM_SLICES * pixels
    return FLOAT32_BYTES * max(aligning, measuring)


@dataclass(frozen=True)
class Comparison:
    """Figures by method: `model`, the trivial baselines `zero`, `constant`, `hu_mean`, `hu_median`, then peers."""

    figures: Mapping[str, ImageMetrics]

    def as_json(self) -> dict[str, dict[str, float | None]]:
        """Return the figures as nested plain values."""
        return {name: metrics.as_json() for name, metrics in self.figures.items()}


@dataclass(frozen=True, eq=False)
class AlignedVolumes:
    """CT, synthetic and real PET on the network's grid, (K, R, C) each: what is compared, and what is drawn.

    Attributes:
        real_suv: 0 where not measured.
        body: Inside the patient and measured.
        tumour: Inside what a physician drew as tumour; None where nobody did.
        regions: The same, each region with its name.
        peers_suv: What other programs drew of this CT, by their names, SUVbw.
    """

    ct_hu: FloatArray
    synthetic_suv: FloatArray
    real_suv: FloatArray
    body: BoolArray
    measured: BoolArray
    geometry: Geometry
    tumour: BoolArray | None = None
    regions: tuple[tuple[str, BoolArray], ...] = ()
    peers_suv: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Distance between (rows, columns)."""
        return self.geometry.spacing_mm[1:]


@dataclass(frozen=True, eq=False)
class PlacedVolumes:
    """CT and synthetic PET on the network's grid, (K, R, C) each, to be compared with a real PET."""

    ct_hu: FloatArray
    synthetic_suv: FloatArray
    body: BoolArray
    geometry: Geometry

    def with_real(self, pet: Volume) -> AlignedVolumes:
        """Return the volumes with the real PET, SUVbw, which lies on its own grid.

        Raises:
            PairingError: It covers none of the synthetic one.
        """
        real = resample_to(mask_unmeasured(pet), self.geometry).array
        measured = np.isfinite(real)
        if not measured.any():
            raise PairingError("the real PET covers no part of the synthetic one")
        real[~measured] = 0
        return AlignedVolumes(
            ct_hu=self.ct_hu,
            synthetic_suv=self.synthetic_suv,
            real_suv=real,
            body=self.body & measured,
            measured=measured,
            geometry=self.geometry,
        )


def place(synthetic: Volume, *, ct: Volume, grid: Grid, progress: Progress = no_progress) -> PlacedVolumes:
    """Return CT and synthetic PET on the recipe's pixels, at the synthetic PET's slices (a slab of the CT's, or all).

    They come in canonical voxel order, in which networks and slice-wise metrics work, however they are stored.

    Args:
        synthetic: SUVbw, on the CT's grid.
        ct: The whole CT, HU.
        grid: Of the model's recipe.
        progress: Called after every slice.

    Raises:
        PairingError: The synthetic PET is not on the CT's slices.
    """
    synthetic, ct = to_canonical(synthetic), to_canonical(ct)
    first = int(np.argmin(np.abs(ct.geometry.slice_positions_mm() - synthetic.geometry.slice_positions_mm()[0])))
    part = ct.slab(slice(first, min(first + synthetic.geometry.shape[0], ct.geometry.shape[0])))
    if not part.geometry.same_grid_as(synthetic.geometry):
        raise PairingError("the synthetic PET does not lie on the CT's slices")
    geometry = grid.on(part.geometry)
    rows, columns = geometry.shape[1:]
    body = np.empty(geometry.shape, dtype=np.bool_)
    for k in range(len(body)):  # slice by slice, here and below: a float mask of the whole CT is as large as the CT
        mask = body_mask(part.slab(slice(k, k + 1))).astype(np.float32)
        body[k] = resample_in_plane(mask, rows, columns)[0] >= 0.5
        progress(k + 1, len(body), "aligning")
    return PlacedVolumes(
        ct_hu=_resampled(part.array, rows, columns),
        synthetic_suv=_resampled(synthetic.array, rows, columns),
        body=body,
        geometry=geometry,
    )


def align(synthetic: Volume, *, ct: Volume, pet: Volume, grid: Grid) -> AlignedVolumes:
    """Return CT, synthetic and real PET on the recipe's pixels; see `place`.

    Args:
        synthetic: SUVbw, on the CT's grid.
        ct: The whole CT, HU.
        pet: The real PET, SUVbw, on its own grid.
        grid: Of the model's recipe.

    Raises:
        PairingError: The synthetic PET is not on the CT's slices, or the real PET covers none of it.
    """
    return place(synthetic, ct=ct, grid=grid).with_real(pet)


def _resampled(slices: FloatArray, rows: int, columns: int) -> FloatArray:
    """Return `resample_in_plane` of the slices, one at a time."""
    if slices.shape[1:] == (rows, columns):
        return slices
    resampled = np.empty((len(slices), rows, columns), dtype=np.float32)
    for k in range(len(slices)):
        resampled[k] = resample_in_plane(slices[k : k + 1], rows, columns)[0]
    return resampled


def compare(
    volumes: AlignedVolumes,
    card: ModelCard,
    *,
    device: torch.device | None = None,
    groups: frozenset[Group] = ALL_GROUPS,
    progress: Progress = no_progress,
) -> Comparison:
    """Return the figures of the model, of the baselines its card carries, and of peers; costly ones as in `groups`."""
    device = device or torch.device("cpu")
    figures = measure_with_baselines(
        volumes.synthetic_suv,
        volumes.real_suv,
        ct_hu=volumes.ct_hu,
        body=volumes.body,
        measured=volumes.measured,
        baselines=card_baselines(card),
        device=device,
        groups=groups,
        progress=progress,
    )
    body, measured = volumes.body, volumes.measured
    for name, suv_bw in volumes.peers_suv.items():
        figures[name] = measure_slices(suv_bw, volumes.real_suv, body, measured=measured, groups=groups, device=device)
    return Comparison(figures)


def drawn_by_all(volumes: AlignedVolumes, baselines: Baselines) -> dict[str, FloatArray]:
    """Return every method's PET, SUVbw (K, R, C): the model's, the trivial baselines', the peers'."""
    drawn: dict[str, FloatArray] = {"model": volumes.synthetic_suv}
    drawn |= {name: baselines.predict(name, volumes.ct_hu, volumes.body) for name in BASELINE_NAMES}
    return drawn | dict(volumes.peers_suv)


def card_baselines(card: ModelCard) -> Baselines:
    """Return the trivial predictors fitted on a model's training patients.

    Raises:
        PairingError: The card has none.
    """
    if card.baselines is None:
        raise PairingError(f"the model card of {card.name} carries no baselines to compare with; train it again")
    return Baselines.from_json(card.baselines)


def compare_with_real(
    synthetic: Volume, *, ct: Volume, pet: Volume, card: ModelCard, groups: frozenset[Group] = ALL_GROUPS
) -> Comparison:
    """Return how a synthetic PET does against the real one, on the grid of the model's recipe; see `compare`."""
    return compare(align(synthetic, ct=ct, pet=pet, grid=card.recipe.grid), card, groups=groups)
