"""Training samples from prepared arrays, sampled reproducibly in resumed and distributed runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

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
from lib.parallel import ahead

Entries = Sequence[tuple[PreparedPair, tuple[int, ...]]]  # pairs, each with indices of slices


@dataclass(frozen=True)
class PairsBySide:
    """The slices on each side of the split, as (pair, slice indices)."""

    train: tuple[tuple[PreparedPair, tuple[int, ...]], ...]
    validation: tuple[tuple[PreparedPair, tuple[int, ...]], ...]
    test: tuple[tuple[PreparedPair, tuple[int, ...]], ...]

    def patients(self, side: Side) -> tuple[str, ...]:
        """Return the patients with slices on a side, sorted."""
        return tuple(sorted({pair.patient_id for pair, _ in getattr(self, side)}))


def split_pairs(prepared: PreparedSet, split: Split, assigned: Mapping[str, Side] | None = None) -> PairsBySide:
    """Return the slices on each side of the split.

    Args:
        prepared: The prepared arrays.
        split: Split settings; they decide for patients who are not in `assigned`.
        assigned: Permanent sides of patients; ignored with a split by slice.

    Raises:
        PreparedDataError: No training patients.
    """
    sides: dict[Side, list[tuple[PreparedPair, tuple[int, ...]]]] = {side: [] for side in SPLIT_SIDES}
    for pair in prepared.pairs:
        permanent = (assigned or {}).get(pair.patient_id) if split.unit == "patient" else None
        of_slice = [permanent or split.side_of_slice(pair.patient_id, index) for index in range(pair.shape[0])]
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
class SampleKey:
    """Key of a sample: its index and the epoch; the random crop depends on both."""

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

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Tensor, Tensor]:
        number, index = self.samples[key.sample]
        arrays = self.arrays[number]
        context = context_indices(
            index,
            arrays.pair.shape[0],
            config=self.recipe.network,
            slice_spacing_mm=arrays.pair.spacing_mm[0],
        )
        random = np.random.default_rng([self.recipe.seed, key.epoch, key.sample])
        window = _random_window(arrays.pair.shape[1:], self.patch, random)
        ct = _crop(arrays.ct_unit(context), window, self.patch)
        pet = _crop(arrays.pet_unit(slice(index, index + 1)), window, self.patch)
        regions = _crop(np.asarray(arrays.regions[index : index + 1]), window, self.patch)
        return torch.from_numpy(ct), torch.from_numpy(pet), torch.from_numpy(regions)


class ShardSampler(Sampler[SampleKey]):
    """Samples of one process in one epoch: slices of its patients in random order, equally many in every process."""

    def __init__(self, dataset: SliceDataset, recipe: Recipe, *, rank: int = 0, world_size: int = 1) -> None:
        self.epoch = 0
        self.shard = patient_shard(dataset, rank=rank, world_size=world_size)
        self.rank, self.seed = rank, recipe.seed
        self.batch_size = max(1, recipe.batches.size // world_size)
        self.batches = max(1, len(dataset) // (self.batch_size * world_size))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[SampleKey]:
        random = np.random.default_rng([self.seed, self.epoch, self.rank, 1])
        rounds = -(-len(self) // len(self.shard))
        order = np.concatenate([random.permutation(self.shard) for _ in range(rounds)])[: len(self)]
        return iter([SampleKey(self.epoch, int(sample)) for sample in order])


def patient_shard(dataset: SliceDataset, *, rank: int, world_size: int) -> NDArray[np.int64]:
    """Return the samples of a process: all slices of its patients, distributed evenly, largest patients first.

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
    shards: list[list[int]] = [[] for _ in range(world_size)]
    for _, samples in sorted(of_patient.items(), key=lambda item: (-len(item[1]), item[0])):
        min(shards, key=len).extend(samples)
    return np.asarray(shards[rank], dtype=np.int64)


class PrefetchingLoader(DataLoader[SampleKey]):
    """A DataLoader whose next batch is read by another thread while the caller computes.

    MONAI's ThreadDataLoader does the same, but an error of its thread ends an epoch early without notice.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with closing(ahead(super().__iter__())) as batches:
            yield from batches


def training_loader(
    dataset: SliceDataset, sampler: ShardSampler, recipe: Recipe, *, pin: bool
) -> DataLoader[SampleKey]:
    """Return batches of (ct (N, context, P, P), pet (N, 1, P, P), regions (N, 1, P, P)).

    Args:
        pin: Whether to use pinned memory, for asynchronous copies to a CUDA device.
    """
    return PrefetchingLoader(
        dataset,  # type: ignore[arg-type]  # indexed by SampleKey, not by int
        batch_size=sampler.batch_size,
        sampler=sampler,
        num_workers=recipe.batches.workers,
        persistent_workers=recipe.batches.workers > 0,
        pin_memory=pin,
        drop_last=True,
    )


def patch_size(prepared: PreparedSet, recipe: Recipe) -> int:
    """Return the patch size in pixels: that of the largest slice, at most the recipe's, a multiple of the pooling."""
    step = 2**recipe.network.depth
    largest = max(max(pair.shape[1:]) for pair in prepared.pairs)
    return max(step, min(-(-largest // step) * step, recipe.batches.patch // step * step))


def _random_window(size: tuple[int, ...], patch: int, random: np.random.Generator) -> tuple[int, int]:
    """Return the (row, column) at which the patch begins; negative if the slice is smaller than the patch."""
    row, column = (int(random.integers(min(0, length - patch), max(0, length - patch) + 1)) for length in size)
    return row, column


def _crop(slices: NDArray[np.generic], window: tuple[int, int], patch: int) -> NDArray[np.generic]:
    patch_array = np.zeros((len(slices), patch, patch), dtype=slices.dtype)  # 0 is air, no uptake, not measured
    source, target = [], []
    for start, length in zip(window, slices.shape[1:], strict=True):
        low, high = max(start, 0), min(start + patch, length)
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    patch_array[:, target[0], target[1]] = slices[:, source[0], source[1]]
    return patch_array
