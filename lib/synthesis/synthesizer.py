"""A loaded model that turns CT volumes into synthetic PET volumes, slice by slice."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from lib.errors import InputError
from lib.imaging.geometry import Geometry, resolve_slab
from lib.imaging.in_plane import resample_in_plane
from lib.imaging.normalize import denormalize_pet, normalize_ct
from lib.imaging.volume import Unit, Volume
from lib.learning.card import ModelCard
from lib.learning.checkpoint import file_checksum, load_checkpoint
from lib.networks.cascade import Cascade
from lib.networks.precision import Precision, choose_device
from lib.networks.slices import context_reach, each_stage
from lib.types import Progress, no_progress

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
            ct: The whole CT in HU, also when only a slab is wanted: neighbours enter as context.
            slices: Which slices to synthesise; all when not given. A slab equals the same slices of the whole.
            grid: `ct` gives the CT's rows and columns, `network` the grid the network works on.
            progress: Told after every slice.

        Raises:
            InputError: The volume is not in HU, or the slices leave it.
        """
        if ct.unit is not Unit.HU:
            raise InputError(f"a synthetic PET is drawn from a CT in HU, found a volume in {ct.unit.value}")
        if grid not in get_args(OutputGrid):
            raise InputError(f"grid is one of {', '.join(get_args(OutputGrid))}, found {grid!r}")
        start, stop = resolve_slab(slices or slice(None), ct.geometry.shape[0])
        slice_spacing_mm = ct.geometry.spacing_mm[0]
        # only what the slab's context can reach is resampled and kept
        reach = context_reach(self.card.network, slice_spacing_mm=slice_spacing_mm)
        low, high = max(0, start - reach), min(ct.geometry.shape[0], stop + reach)
        unit = self._as_network_sees(ct.slab(slice(low, high)))
        pets = each_stage(
            self._cascade,
            unit.array,
            range(start - low, stop - low),
            slice_spacing_mm=slice_spacing_mm,
            device=self.device,
            precision=self._precision,
            flips=self.card.recipe.synthesis.flips,
        )
        out = self._output_geometry(ct.geometry, grid).slab(slice(start, stop))
        suv_bw = np.empty(out.shape, dtype=np.float32)
        for number, stages in enumerate(pets):
            drawn = denormalize_pet(stages[-1:], self.card.recipe.windows)
            suv_bw[number] = resample_in_plane(drawn, *out.shape[1:])[0]
            progress(number + 1, stop - start, "synthesising")
        return Volume(suv_bw, out, Unit.SUV_BW)

    def _as_network_sees(self, ct: Volume) -> Volume:
        geometry = self.card.recipe.grid.on(ct.geometry)
        resampled = resample_in_plane(ct.array, *geometry.shape[1:])
        return Volume(normalize_ct(resampled, self.card.recipe.windows), geometry, Unit.UNIT_RANGE)

    def _output_geometry(self, ct: Geometry, grid: OutputGrid) -> Geometry:
        return ct if grid == "ct" else self.card.recipe.grid.on(ct)
