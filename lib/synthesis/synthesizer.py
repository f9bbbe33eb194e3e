"""A loaded model that turns CT volumes into synthetic PET volumes, slice by slice."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from lib.errors import CheckpointError, InputError
from lib.files import file_checksum
from lib.imaging.geometry import Geometry
from lib.imaging.normalize import Windows, denormalize_ct, denormalize_pet, normalize_ct
from lib.imaging.orientation import VoxelOrder, canonical_geometry, refuse_oblique
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import load_network
from lib.learning.cross_validation.shrinkage import TISSUE_HU, shrink
from lib.learning.model_card.card import ModelCard, patient_digest
from lib.metrics.baselines import Baselines
from lib.networks.cascade import Cascade
from lib.networks.ensemble import combine, member
from lib.networks.precision import Precision, choose_device
from lib.networks.runtimes.choice import ChosenRuntime, choose_runtime
from lib.networks.runtimes.names import RuntimeName
from lib.networks.slices import SLICES_AHEAD, SliceNetwork, predict_stages
from lib.types import FloatArray, Progress, no_progress

OutputGrid = Literal["ct", "network"]


class Synthesizer:
    """A loaded model that can be applied to many CTs; mirrored CTs are averaged if the recipe says so."""

    def __init__(
        self,
        network: SliceNetwork,
        card: ModelCard,
        *,
        checksum: str,
        device: torch.device,
        precision: Precision = "auto",
        runtime: RuntimeName = "auto",
    ) -> None:
        self.card = card
        self.checksum = checksum
        self.device = device
        self._network = network
        self._precision: Precision = precision
        self._runtime: RuntimeName = runtime
        self._replicas: dict[torch.device, Synthesizer] = {}

    @property
    def cascade(self) -> Cascade:
        """The network.

        Raises:
            CheckpointError: It was imported.
        """
        if not isinstance(self._network, Cascade):
            raise CheckpointError(f"{self.card.name} was imported as ONNX", code="imported_model")
        return self._network

    @classmethod
    def load(
        cls, path: Path, *, device: str = "auto", precision: Precision = "auto", runtime: RuntimeName = "auto"
    ) -> Synthesizer:
        """Return the synthesizer of a checkpoint.

        Raises:
            CheckpointError: Not a ct2pet checkpoint; or an imported network, and onnxruntime is not installed.
            RecipeError: Unknown device or precision; unknown runtime, or one that is not available.
        """
        chosen = choose_device(device)
        network, card = load_network(path, device=chosen)
        synthesizer = cls(
            network, card, checksum=file_checksum(path), device=chosen, precision=precision, runtime=runtime
        )
        _ = synthesizer.runtime  # chosen now, so that an error comes before any work
        return synthesizer

    @cached_property
    def runtime(self) -> ChosenRuntime:
        """How the network is run on this machine."""
        return choose_runtime(
            self._network,
            self.card.recipe.windows,
            device=self.device,
            limit_suv=self.card.recipe.synthesis.max_difference_suv,
            name=self._runtime,
            precision=self._precision,
        )

    def on(self, device: torch.device) -> Synthesizer:
        """Return the synthesizer on a device, its weights copied at the first request; an imported network stays.

        Different devices may be requested at the same time, from several threads; one device by one at a time.
        """
        if _is_same(device, self.device) or not isinstance(self._network, Cascade):
            return self
        if device not in self._replicas:
            network = copy.deepcopy(self._network).to(device)
            self._replicas[device] = Synthesizer(
                network, self.card, checksum=self.checksum, device=device, precision=self._precision,
                runtime=self._runtime,
            )  # fmt: skip
        return self._replicas[device]

    def for_patient(self, patient_id: str) -> Synthesizer:
        """Return the synthesizer that a patient is evaluated with.

        It is the same one, unless the model is a cross-validated ensemble that was trained on this patient: then it is
        the mean of those networks of the ensemble that were not.
        """
        digest = patient_digest(patient_id)
        judges = self.card.training.judges(digest, networks=self.card.network.members)
        if not judges:
            return self
        cascade = combine([member(self.cascade, network) for network in judges])
        fold = self.card.training.folds[digest]
        card = replace(self.card, baselines=self.card.fold_baselines[fold])
        return Synthesizer(
            cascade, card, checksum=self.checksum, device=self.device, precision=self._precision, runtime=self._runtime
        )

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
            ct: The full CT in HU, in any voxel order, also for a slab: neighbouring slices are used as context.
            slices: Slices to synthesise; all by default. A slab equals the same slices of the full volume.
            grid: `ct` returns the CT's own voxels in their order; `network` returns the network's grid in canonical
                order (`lib/imaging/orientation.py`), at the axial slices that contain the requested ones.
            progress: Called after every axial slice.

        Raises:
            InputError: The volume is not in HU, is oblique, or lacks a requested slice.
        """
        if grid not in get_args(OutputGrid):
            raise InputError(f"grid must be one of {', '.join(get_args(OutputGrid))}, found {grid!r}")
        (pet,) = self._slabs(ct, [slices or slice(None)], grid, progress)
        return pet

    def apply_in_slabs(
        self, ct: Volume, slabs: Sequence[slice], *, progress: Progress = no_progress
    ) -> Iterator[Volume]:
        """Yield the synthetic PET of each slab on the CT's grid; while one is used, the next is computed.

        Args:
            ct: As of `apply`.
            slabs: Ranges of stored slices, one after the other.
            progress: As of `apply`, for all slabs together.

        Raises:
            InputError: As of `apply`.
        """
        return self._slabs(ct, slabs, "ct", progress)

    def _slabs(self, ct: Volume, slabs: Sequence[slice], grid: OutputGrid, progress: Progress) -> Iterator[Volume]:
        if ct.unit is not Unit.HU:
            raise InputError(f"expected a CT in HU, found a volume in {ct.unit.value}")
        refuse_oblique(ct.geometry, "the CT")
        order, full = VoxelOrder.of(ct.geometry), canonical_geometry(ct.geometry)
        boxes = [order.box(slab) for slab in slabs]
        pets = chain.from_iterable(
            self._predict(order.canonical(ct.array), full, axial) for axial in _joined([box[0] for box in boxes])
        )
        done, count = 0, sum(box[0].stop - box[0].start for box in boxes)
        for slab, (axial, *crop) in zip(slabs, boxes, strict=True):
            if grid == "ct":
                out, size = ct.geometry.slab(slab), full.shape[1:]
                suv_bw = np.empty(out.shape, dtype=np.float32)
                canonical = order.canonical(suv_bw)
            else:
                out = self.card.recipe.grid.on(full).slab(axial)
                size, crop = out.shape[1:], [slice(None), slice(None)]
                suv_bw = canonical = np.empty(out.shape, dtype=np.float32)
            for number in range(axial.stop - axial.start):
                canonical[number] = resample_in_plane(next(pets), *size)[0][tuple(crop)]
                done += 1
                progress(done, count, "synthesising")
            yield Volume(suv_bw, out, Unit.SUV_BW)

    def _predict(self, ct_hu: FloatArray, geometry: Geometry, axial: slice) -> Iterator[FloatArray]:
        """Yield the last stage's PET of each axial slice on the network's grid, SUVbw (1, R, C); canonical order.

        It is 0 in slices without any voxel above -500 HU, which are not computed.
        """
        windows = self.card.recipe.windows
        size = self.card.recipe.grid.on(geometry).shape[1:]
        ct_unit = NetworkSlices(ct_hu, size, windows)
        with_body = [k for k in range(axial.start, axial.stop) if ct_hu[k].max() > TISSUE_HU]
        pets = predict_stages(
            self.runtime.network,
            ct_unit,
            with_body,
            slice_spacing_mm=geometry.spacing_mm[0],
            device=self.device,
            precision="float32",  # the runtime has its own
            flips=self.card.recipe.synthesis.flips,
            at_once=self.runtime.network.name in ("eager", "folded"),
        )
        computed = set(with_body)
        for k in range(axial.start, axial.stop):
            if k not in computed:
                yield np.zeros((1, *size), dtype=np.float32)
                continue
            pet = denormalize_pet(next(pets)[-1:], windows)
            if self.card.lookup_weight:
                hu = denormalize_ct(ct_unit.slice(k), windows)
                pet = shrink(pet, hu, self._baselines, weight=self.card.lookup_weight)
            yield pet

    @cached_property
    def _baselines(self) -> Baselines:
        """The baselines of the card, for the lookup that the PET is shrunk towards."""
        if self.card.baselines is None:
            raise CheckpointError(f"the model card of {self.card.name} has a lookup weight but no baselines")
        return Baselines.from_json(self.card.baselines)


def _joined(ranges: Sequence[slice]) -> list[slice]:
    """Return ranges with each joined to the one before it where it continues there."""
    joined: list[slice] = []
    for found in ranges:
        if joined and joined[-1].stop == found.start:
            joined[-1] = slice(joined[-1].start, found.stop)
        else:
            joined.append(found)
    return joined


def _is_same(device: torch.device, other: torch.device) -> bool:
    """Return whether two names are of one device: `cuda` is `cuda:0`."""
    return (device.type, device.index or 0) == (other.type, other.index or 0)


class NetworkSlices:
    """A `SliceStack` of a CT's slices on the network's grid, resampled on demand.

    Indices are requested in ascending order, so slices far before the batch are dropped and memory stays constant.
    """

    def __init__(self, ct_hu: FloatArray, size: tuple[int, int], windows: Windows) -> None:
        self._ct_hu = ct_hu
        self._size = size
        self._windows = windows
        self._cache: dict[int, FloatArray] = {}

    def __len__(self) -> int:
        return len(self._ct_hu)

    def __getitem__(self, indices: list[int], /) -> FloatArray:
        """Return slices, (len(indices), R, C), unit range."""
        first = min(indices) - SLICES_AHEAD
        self._cache = {k: ct_unit for k, ct_unit in self._cache.items() if k >= first}
        return np.concatenate([self.slice(k) for k in indices])

    def slice(self, k: int) -> FloatArray:
        """Return one slice, (1, R, C), unit range, and keep the others."""
        if k not in self._cache:
            ct_hu = np.ascontiguousarray(self._ct_hu[k : k + 1])
            self._cache[k] = normalize_ct(resample_in_plane(ct_hu, *self._size), self._windows)
        return self._cache[k]
