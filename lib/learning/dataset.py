"""Prepared arrays as training samples, drawn so that a resumed or a distributed run draws the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lib.errors import PreparedDataError
from lib.learning.recipe import Recipe
from lib.networks.slices import context_indices
from lib.pairing.prepared import PairArrays, PreparedPair, PreparedSet
from lib.pairing.split import SPLIT_SIDES, Side, Split

Entries = Sequence[tuple[PreparedPair, tuple[int, ...]]]  # pairs, each with the slices of it that are meant


@dataclass(frozen=True)
class PairsBySide:
    """The slices of a prepared set on each side of the split, as (pair, slice indices)."""

    train: tuple[tuple[PreparedPair, tuple[int, ...]], ...]
    validation: tuple[tuple[PreparedPair, tuple[int, ...]], ...]
    test: tuple[tuple[PreparedPair, tuple[int, ...]], ...]

    def patients(self, side: Side) -> tuple[str, ...]:
        """Return the patients who have slices on that side, sorted."""
        return tuple(sorted({pair.patient_id for pair, _ in getattr(self, side)}))


def split_pairs(prepared: PreparedSet, split: Split, assigned: Mapping[str, Side] | None = None) -> PairsBySide:
    """Return who is on which side.

    Args:
        prepared: Whose slices.
        split: Whose hash decides about those nobody has decided about before.
        assigned: Sides of patients that were decided for good; they mean nothing under a split by slice.

    Raises:
        PreparedDataError: Nobody is left to train on.
    """
    sides: dict[Side, list[tuple[PreparedPair, tuple[int, ...]]]] = {side: [] for side in SPLIT_SIDES}
    for pair in prepared.pairs:
        for_good = (assigned or {}).get(pair.patient_id) if split.unit == "patient" else None
        of_slice = [for_good or split.side_of_slice(pair.patient_id, index) for index in range(pair.shape[0])]
        for side, entries in sides.items():
            indices = tuple(index for index, found in enumerate(of_slice) if found == side)
            if indices:
                entries.append((pair, indices))
    if not sides[Side.TRAIN]:
        raise PreparedDataError(
            f"none of the {len(prepared.patients())} patients falls on the training side of the split; "
            "add patients, or set split.validation and split.test lower for patients who have no side yet",
            code="no_training_patients",
            patients=len(prepared.patients()),
        )
    return PairsBySide(*(tuple(entries) for entries in sides.values()))


@dataclass(frozen=True)
class Draw:
    """One sample to draw: which one, and in which epoch (its random crop depends on both)."""

    epoch: int
    sample: int


class SliceDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Training slices of a fixed patch size: (ct (context, P, P), pet (1, P, P), regions (1, P, P))."""

    def __init__(self, prepared: PreparedSet, entries: Entries, recipe: Recipe) -> None:
        self.arrays: list[PairArrays] = [prepared.arrays(pair) for pair, _ in entries]
        self.samples = [(number, index) for number, (_, indices) in enumerate(entries) for index in indices]
        self.recipe = recipe
        self.patch = patch_size(prepared, recipe)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        number, index = self.samples[draw.sample]
        arrays = self.arrays[number]
        context = context_indices(
            index,
            arrays.pair.shape[0],
            config=self.recipe.network,
            slice_spacing_mm=arrays.pair.spacing_mm[0],
        )
        random = np.random.default_rng([self.recipe.seed, draw.epoch, draw.sample])
        window = _random_window(arrays.pair.shape[1:], self.patch, random)
        ct = _cut(arrays.ct_unit(context), window, self.patch)
        pet = _cut(arrays.pet_unit(slice(index, index + 1)), window, self.patch)
        regions = _cut(np.asarray(arrays.regions[index : index + 1]), window, self.patch)
        return torch.from_numpy(ct), torch.from_numpy(pet), torch.from_numpy(regions)


class ShardSampler(Sampler[Draw]):
    """The draws of one process in one epoch: its patients' slices in random order, as many draws on every process."""

    def __init__(self, dataset: SliceDataset, recipe: Recipe, *, rank: int = 0, world_size: int = 1) -> None:
        self.epoch = 0
        self.share = patient_shard(dataset, rank=rank, world_size=world_size)
        self.rank, self.seed = rank, recipe.seed
        self.batch_size = max(1, recipe.batches.size // world_size)
        self.batches = max(1, len(dataset) // (self.batch_size * world_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's order `iter` gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng([self.seed, self.epoch, self.rank, 1])
        rounds = -(-len(self) // len(self.share))
        order = np.concatenate([random.permutation(self.share) for _ in range(rounds)])[: len(self)]
        return iter([Draw(self.epoch, int(sample)) for sample in order])


def patient_shard(dataset: SliceDataset, *, rank: int, world_size: int) -> NDArray[np.int64]:
    """Return the samples of this process: whole patients, dealt out largest first so that shares are even.

    Raises:
        PreparedDataError: There are more processes than patients.
    """
    of_patient: dict[str, list[int]] = {}
    for sample, (number, _) in enumerate(dataset.samples):
        of_patient.setdefault(dataset.arrays[number].pair.patient_id, []).append(sample)
    if len(of_patient) < world_size:
        raise PreparedDataError(
            f"{len(of_patient)} training patients for {world_size} processes; start fewer processes"
        )
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for _, samples in sorted(of_patient.items(), key=lambda item: (-len(item[1]), item[0])):
        min(shares, key=len).extend(samples)
    return np.asarray(shares[rank], dtype=np.int64)


def training_loader(dataset: SliceDataset, sampler: ShardSampler, recipe: Recipe, *, pin: bool) -> DataLoader[Draw]:
    """Return batches of (ct (N, context, P, P), pet (N, 1, P, P), regions (N, 1, P, P)).

    Args:
        pin: Whether batches are put where a CUDA device can fetch them without waiting.
    """
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # its items are chosen by Draw, not by int
        batch_size=sampler.batch_size,
        sampler=sampler,
        num_workers=recipe.batches.workers,
        persistent_workers=recipe.batches.workers > 0,
        pin_memory=pin,
        drop_last=True,
    )


def patch_size(prepared: PreparedSet, recipe: Recipe) -> int:
    """Return rows and columns of a training slice: what the largest slice needs, up to the recipe's patch."""
    step = 2**recipe.network.depth
    largest = max(max(pair.shape[1:]) for pair in prepared.pairs)
    return max(step, min(-(-largest // step) * step, recipe.batches.patch // step * step))


def _random_window(size: tuple[int, ...], patch: int, random: np.random.Generator) -> tuple[int, int]:
    """Return the (row, column) where the patch begins; negative where the slice is smaller and lies inside it."""
    row, column = (int(random.integers(min(0, length - patch), max(0, length - patch) + 1)) for length in size)
    return row, column


def _cut(slices: NDArray[np.generic], window: tuple[int, int], patch: int) -> NDArray[np.generic]:
    cut = np.zeros((len(slices), patch, patch), dtype=slices.dtype)  # 0 is air, no uptake, not measured
    source, target = [], []
    for start, length in zip(window, slices.shape[1:], strict=True):
        low, high = max(start, 0), min(start + patch, length)
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    cut[:, target[0], target[1]] = slices[:, source[0], source[1]]
    return cut
