"""Compare a synthetic PET, and the baselines, with the real PET of the same study."""

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
from lib.imaging.label_map import Organs
from lib.imaging.orientation import to_canonical
from lib.imaging.resample import resample_to
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard
from lib.learning.validation import measure_with_baselines
from lib.metrics.baselines import BASELINE_NAMES, ORGAN_MEDIAN, Baselines
from lib.metrics.image import ALL_GROUPS, Group, ImageMetrics, measure_slices
from lib.types import BoolArray, FloatArray, Progress, no_progress

FLOAT32_BYTES = 4
COMPARED_VOLUMES = 8  # on the network's grid, float32: CT, both PETs, masks, a baseline's PET, three for differences
SSIM_SLICES = 200  # on the network's grid: 16 slices with their means, variances and maps


def comparison_bytes(slices: int, *, ct: Geometry, grid: Grid, pet_shape: Sequence[int]) -> int:
    """Return the peak memory in bytes of a comparison with the real PET, in addition to the CT.

    Args:
        slices: Number of slices of the synthetic PET.
        ct: Geometry of the CT, in canonical order.
        grid: Of the model's recipe.
        pet_shape: Of the real PET, (K, R, C).
    """
    pixels = math.prod(grid.on(ct).shape[1:])
    aligning = 2 * math.prod(pet_shape) + 5 * slices * pixels
    measuring = COMPARED_VOLUMES * slices * pixels + SSIM_SLICES * pixels
    return FLOAT32_BYTES * max(aligning, measuring)


@dataclass(frozen=True)
class Comparison:
    """Metrics by method: `model`, the baselines (`organ_median` last, where available), then external programs."""

    metrics: Mapping[str, ImageMetrics]

    def as_json(self) -> dict[str, dict[str, float | None]]:
        """Return the metrics as nested plain values."""
        return {name: metrics.as_json() for name, metrics in self.metrics.items()}


@dataclass(frozen=True, eq=False)
class AlignedVolumes:
    """CT, synthetic and real PET on the network's grid, (K, R, C) each.

    Attributes:
        real_suv: 0 where not measured.
        body: Inside the patient and measured.
        tumour: Union of the contoured tumours; None without a contour.
        regions: Each contoured tumour, with its name.
        external_suv: SUVbw predicted from this CT by other programs, by name.
        organs: The segmented organs; None without a label map.
        organ_median_suv: SUVbw of the baseline `organ_median`; None where it is not available.
    """

    ct_hu: FloatArray
    synthetic_suv: FloatArray
    real_suv: FloatArray
    body: BoolArray
    measured: BoolArray
    geometry: Geometry
    tumour: BoolArray | None = None
    regions: tuple[tuple[str, BoolArray], ...] = ()
    external_suv: Mapping[str, FloatArray] = field(default_factory=dict)
    organs: Organs | None = None
    organ_median_suv: FloatArray | None = None

    @property
    def optional_suv(self) -> dict[str, FloatArray]:
        """SUVbw of the methods that are not available for every CT: `organ_median`, and external programs."""
        organ_median = {} if self.organ_median_suv is None else {ORGAN_MEDIAN: self.organ_median_suv}
        return organ_median | dict(self.external_suv)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Distance between (rows, columns), mm."""
        return self.geometry.spacing_mm[1:]


@dataclass(frozen=True, eq=False)
class AlignedPrediction:
    """CT and synthetic PET on the network's grid, (K, R, C) each."""

    ct_hu: FloatArray
    synthetic_suv: FloatArray
    body: BoolArray
    geometry: Geometry

    def with_real(self, pet: Volume) -> AlignedVolumes:
        """Return the volumes with the real PET, SUVbw, resampled from its own grid.

        Raises:
            PairingError: The real PET does not overlap the synthetic one.
        """
        real = resample_to(mask_unmeasured(pet), self.geometry).array
        measured = np.isfinite(real)
        if not measured.any():
            raise PairingError("the real PET does not overlap the synthetic one; check that both are of the same study")
        real[~measured] = 0
        return AlignedVolumes(
            ct_hu=self.ct_hu,
            synthetic_suv=self.synthetic_suv,
            real_suv=real,
            body=self.body & measured,
            measured=measured,
            geometry=self.geometry,
        )


def place(synthetic: Volume, *, ct: Volume, grid: Grid, progress: Progress = no_progress) -> AlignedPrediction:
    """Return CT and synthetic PET on the recipe's pixels, at the synthetic PET's slices (a slab of the CT or all).

    Both are returned in canonical voxel order, which networks and slice-wise metrics use.

    Args:
        synthetic: SUVbw, on the CT's grid.
        ct: The full CT, HU.
        grid: Of the model's recipe.
        progress: Called after every slice.

    Raises:
        PairingError: The synthetic PET is not on the CT's slices.
    """
    synthetic, ct = to_canonical(synthetic), to_canonical(ct)
    first = int(np.argmin(np.abs(ct.geometry.slice_positions_mm() - synthetic.geometry.slice_positions_mm()[0])))
    part = ct.slab(slice(first, min(first + synthetic.geometry.shape[0], ct.geometry.shape[0])))
    if not part.geometry.same_grid_as(synthetic.geometry):
        raise PairingError("the synthetic PET is not on the CT's slices; expected a slab of the CT's own grid")
    geometry = grid.on(part.geometry)
    rows, columns = geometry.shape[1:]
    body = np.empty(geometry.shape, dtype=np.bool_)
    for k in range(len(body)):  # slice by slice, because a float mask of the full CT needs as much memory as the CT
        mask = body_mask(part.slab(slice(k, k + 1))).astype(np.float32)
        body[k] = resample_in_plane(mask, rows, columns)[0] >= 0.5
        progress(k + 1, len(body), "aligning")
    return AlignedPrediction(
        ct_hu=_resampled(part.array, rows, columns),
        synthetic_suv=_resampled(synthetic.array, rows, columns),
        body=body,
        geometry=geometry,
    )


def align(synthetic: Volume, *, ct: Volume, pet: Volume, grid: Grid) -> AlignedVolumes:
    """Return CT, synthetic and real PET on the recipe's pixels; see `place`.

    Args:
        synthetic: SUVbw, on the CT's grid.
        ct: The full CT, HU.
        pet: The real PET, SUVbw, on its own grid.
        grid: Of the model's recipe.

    Raises:
        PairingError: The synthetic PET is not on the CT's slices, or the real PET does not overlap it.
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
    """Return the metrics of the model, of its card's baselines, of `organ_median`, and of external programs."""
    device = device or torch.device("cpu")
    metrics = measure_with_baselines(
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
    for name, suv_bw in volumes.optional_suv.items():
        metrics[name] = measure_slices(suv_bw, volumes.real_suv, body, measured=measured, groups=groups, device=device)
    return Comparison(metrics)


def predict_all_methods(volumes: AlignedVolumes, baselines: Baselines) -> dict[str, FloatArray]:
    """Return every method's PET, SUVbw (K, R, C): of the model, of the baselines, and of external programs."""
    predictions: dict[str, FloatArray] = {"model": volumes.synthetic_suv}
    predictions |= {name: baselines.predict(name, volumes.ct_hu, volumes.body) for name in BASELINE_NAMES}
    return predictions | volumes.optional_suv


def card_baselines(card: ModelCard) -> Baselines:
    """Return the baselines fitted on a model's training patients.

    Raises:
        PairingError: The card has no baselines.
    """
    if card.baselines is None:
        remedy = "train the model again" if card.external is None else "import it again with studies for baselines"
        raise PairingError(f"the model card of {card.name} has no baselines to compare with; {remedy}")
    return Baselines.from_json(card.baselines)


def compare_with_real(
    synthetic: Volume, *, ct: Volume, pet: Volume, card: ModelCard, groups: frozenset[Group] = ALL_GROUPS
) -> Comparison:
    """Return the metrics of a synthetic PET against the real one, on the grid of the model's recipe; see `compare`."""
    return compare(align(synthetic, ct=ct, pet=pet, grid=card.recipe.grid), card, groups=groups)
