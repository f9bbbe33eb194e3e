"""A synthetic PET slab by slab, so that one slab is written while the next is synthesised."""

from __future__ import annotations

from collections.abc import Iterator

from lib.imaging.geometry import Geometry, resolve_slab
from lib.imaging.orientation import VoxelOrder, canonical_geometry
from lib.imaging.volume import Volume
from lib.networks.cascade import NetworkConfig
from lib.networks.slices import context_reach
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import Synthesizer
from lib.types import Progress, no_progress

SLAB = 16  # slices; a GPU computes as many at once


def synthesize_slabs(
    synthesizer: Synthesizer | Ensemble,
    ct: Volume,
    slices: slice | None = None,
    *,
    progress: Progress = no_progress,
) -> Iterator[Volume]:
    """Yield the synthetic PET on the CT's grid in slabs of ascending slices, SUVbw.

    Together they equal the volume of `Synthesizer.apply`. A CT whose slices are not axial gives one slab, since every
    axial slice of the network crosses all of them.

    Args:
        synthesizer: The model.
        ct: The full CT in HU, in any voxel order.
        slices: Slices to synthesise; all by default.
        progress: Called after every axial slice.

    Raises:
        InputError: The volume is not in HU, is oblique, or lacks a requested slice.
    """
    start, stop = resolve_slab(slices or slice(None), ct.geometry.shape[0])
    if VoxelOrder.of(ct.geometry).axes[0] != 0:
        yield synthesizer.apply(ct, slice(start, stop), progress=progress)
        return
    slabs = [slice(first, min(first + SLAB, stop)) for first in range(start, stop, SLAB)]
    if isinstance(synthesizer, Synthesizer):
        yield from synthesizer.apply_in_slabs(ct, slabs, progress=progress)
        return
    for slab in slabs:
        yield synthesizer.apply(ct, slab, progress=_of_all(progress, slab.start - start, stop - start))


def source_slices(network: NetworkConfig, ct: Geometry, slices: slice) -> slice:
    """Return the slices of a CT that the synthetic PET of some of its slices depends on, in stored order.

    Raises:
        InputError: A slice is not in the CT.
    """
    start, stop = resolve_slab(slices, ct.shape[0])
    if VoxelOrder.of(ct).axes[0] != 0:
        return slice(0, ct.shape[0])
    reach = context_reach(network, slice_spacing_mm=canonical_geometry(ct).spacing_mm[0])
    return slice(max(start - reach, 0), min(stop + reach, ct.shape[0]))


def _of_all(progress: Progress, before: int, count: int) -> Progress:
    """Return a callback for a slab that reports the progress of all slabs."""

    def report(done: int, total: int, what: str) -> None:  # noqa: ARG001
        """Report the progress of the slab."""
        progress(before + done, count, what)

    return report
