"""The peak memory of a synthesis, computed from shapes before allocation."""

from __future__ import annotations

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.networks.cascade import NetworkConfig
from lib.networks.slices import context_reach

FLOAT32_BYTES = 4
ACTIVATION_MAPS = 10  # at full size, of the first level's width: the decoder's input, its output and the skips
CT_SLICES = 8  # of the CT's size, while one slice is resampled, reoriented and written
MAX_NETWORK_PIXELS = 4 * 10**8  # of all slices: 6,000 slices of 50 cm in pixels of 2 mm; an hour on two cores


def synthesis_bytes(ct: Geometry, slices: int, *, grid: Grid, network: NetworkConfig, maps: int = 1) -> int:
    """Return the peak memory of a synthesis in bytes: the CT, the results, and one slice in the network.

    Args:
        ct: Geometry of the full CT, in canonical order.
        slices: Number of slices to synthesise.
        grid, network: Of the model's recipe.
        maps: Number of resulting volumes: the PET, and optionally the expected error.

    Raises:
        InputError: The network's grid has so many pixels that the synthesis would take hours.
    """
    depth, rows, columns = ct.shape
    _, network_rows, network_columns = grid.on(ct).shape
    pixels = network_rows * network_columns
    if slices * pixels > MAX_NETWORK_PIXELS:
        raise InputError(
            f"{slices} slices of {network_columns} x {network_rows} pixels on the network's grid exceed the limit of "
            f"{MAX_NETWORK_PIXELS:,} pixels; check the CT's pixel spacing, or request fewer slices"
        )
    context = 2 * context_reach(network, slice_spacing_mm=ct.spacing_mm[0]) + 1 + network.ct_channels
    inside = pixels * (ACTIVATION_MAPS * network.base_channels + context)
    return FLOAT32_BYTES * ((depth + slices * maps + CT_SLICES) * rows * columns + inside)
