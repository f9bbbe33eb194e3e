"""A loaded model that turns CT volumes into synthetic PET volumes, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from lib.errors import InputError
from lib.files import file_checksum
from lib.imaging.geometry import Geometry
from lib.imaging.normalize import Windows, denormalize_pet, normalize_ct
from lib.imaging.orientation import VoxelOrder, canonical_geometry, refuse_oblique
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import load_checkpoint
from lib.learning.model_card.card import ModelCard
from lib.networks.cascade import Cascade
from lib.networks.precision import Precision, choose_device
from lib.networks.slices import predict_stages
from lib.types import FloatArray, Progress, no_progress

OutputGrid = Literal["ct", "network"]


class Synthesizer:
    """Load once, apply to many CTs; whether the mirrored CT is asked too is the recipe's choice, as in the scores."""

    def __init__(
        self, cascade: Cascade, card: ModelCard, *, checksum: str, device: torch.device, precision: Precision = "auto"
    ) -> None:
        self.card = card
        self.checksum = checksum
        self.device = device
        self._cascade = cascade
        self._precision = precision

    @classmethod
    def load(cls, path: Path, *, device: str = "auto", precision: Precision = "auto") -> Synthesizer:
        """Return the synthesizer of a checkpoint.

        Raises:
            CheckpointError: Not one of our checkpoints.
            RecipeError: No such device or precision.
        """
        chosen = choose_device(device)
        cascade, card = load_checkpoint(path, device=chosen)
        return cls(cascade, card, checksum=file_checksum(path), device=chosen, precision=precision)

    def apply(
        self,
        ct: Volume,
        slices: slice | None = None,
        *,
        grid: OutputGrid = "ct",
        progress: Progress = no_progress,
    ) -> Volume:
        """Return the synthetic PET, SUVbw.

        Args:
            ct: The whole CT in HU, in any voxel order, also when only a slab is wanted: neighbours enter as context.
            slices: Which of its slices to synthesise; all when not given. A slab equals the same slices of the whole.
            grid: `ct` gives the CT's own voxels in their order; `network` the grid the network works on, which is in
                canonical order (`lib/imaging/orientation.py`): the axial slices that the wanted ones lie in.
            progress: Told after every axial slice.

        Raises:
            InputError: The volume is not in HU or oblique, or the slices leave it.
        """
        if ct.unit is not Unit.HU:
            raise InputError(f"a synthetic PET is drawn from a CT in HU, found a volume in {ct.unit.value}")
        if grid not in get_args(OutputGrid):
            raise InputError(f"grid is one of {', '.join(get_args(OutputGrid))}, found {grid!r}")
        refuse_oblique(ct.geometry, "the CT")
        order, whole = VoxelOrder.of(ct.geometry), canonical_geometry(ct.geometry)
        wanted, *cut = order.box(slices or slice(None))
        if grid == "ct":
            out, size = ct.geometry.slab(slices or slice(None)), whole.shape[1:]
            suv_bw = np.empty(out.shape, dtype=np.float32)
            canonical = order.canonical(suv_bw)
        else:
            out = self.card.recipe.grid.on(whole).slab(wanted)
            size, cut = out.shape[1:], [slice(None), slice(None)]
            suv_bw = canonical = np.empty(out.shape, dtype=np.float32)
        count = wanted.stop - wanted.start
        for number, drawn in enumerate(self._draw(order.canonical(ct.array), whole, wanted)):
            canonical[number] = resample_in_plane(drawn, *size)[0][tuple(cut)]
            progress(number + 1, count, "synthesising")
        return Volume(suv_bw, out, Unit.SUV_BW)

    def _draw(self, ct_hu: FloatArray, geometry: Geometry, wanted: slice) -> Iterator[FloatArray]:
        """Yield the last stage's PET of each wanted slice on the network's grid, SUVbw (1, R, C); canonical order."""
        pets = predict_stages(
            self._cascade,
            _NetworkSlices(ct_hu, self.card.recipe.grid.on(geometry).shape[1:], self.card.recipe.windows),
            range(wanted.start, wanted.stop),
            slice_spacing_mm=geometry.spacing_mm[0],
            device=self.device,
            precision=self._precision,
            flips=self.card.recipe.synthesis.flips,
        )
        for stages in pets:
            yield denormalize_pet(stages[-1:], self.card.recipe.windows)


class _NetworkSlices:
    """A CT's slices as the network sees them, resampled when they are needed; a `SliceStack`.

    Requests ascend, so a slice is dropped once a request begins after it: memory does not grow with the volume.
    """

    def __init__(self, ct_hu: FloatArray, size: tuple[int, int], windows: Windows) -> None:
        self._ct_hu = ct_hu
        self._size = size
        self._windows = windows
        self._ready: dict[int, FloatArray] = {}

    def __len__(self) -> int:
        return len(self._ct_hu)

    def __getitem__(self, indices: list[int], /) -> FloatArray:
        """Return slices, (len(indices), R, C), unit range."""
        first = min(indices)
        self._ready = {k: of_slice for k, of_slice in self._ready.items() if k >= first}
        for k in indices:
            if k not in self._ready:
                ct_hu = np.ascontiguousarray(self._ct_hu[k : k + 1])
                self._ready[k] = normalize_ct(resample_in_plane(ct_hu, *self._size), self._windows)[0]
        return np.stack([self._ready[k] for k in indices])
