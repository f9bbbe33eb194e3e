"""How many bytes a synthesis holds at its peak, computed from shapes before anything is allocated."""

from __future__ import annotations

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.networks.cascade import NetworkConfig
from lib.networks.slices import context_reach

FLOAT32_BYTES = 4
ACTIVATION_MAPS = 10  # of the first level's width, at full size: the decoder's input, its output and the skips
CT_SLICES = 8  # of the CT's size, while one slice is resampled, turned and written
MAX_NETWORK_PIXELS = 4 * 10**8  # of all slices: 6,000 slices of 50 cm in pixels of 2 mm; an hour on two cores


def synthesis_bytes(ct: Geometry, slices: int, *, grid: Grid, network: NetworkConfig, maps: int = 1) -> int:
    """Return the peak of a synthesis: the CT, what is drawn, and one slice inside the network.

    Args:
        ct: In canonical order; the whole CT is held.
        slices: How many are drawn.
        grid, network: Of the model's recipe.
        maps: Volumes that result: the PET, and a map of expected errors.

    Raises:
        InputError: Pixels so coarse, or so many, that the network would compute for hours.
    """
    depth, rows, columns = ct.shape
    _, network_rows, network_columns = grid.on(ct).shape
    pixels = network_rows * network_columns
    if slices * pixels > MAX_NETWORK_PIXELS:
        raise InputError(
            f"{slices} slices become {network_columns} x {network_rows} pixels each on the network's grid, at most "
            f"{MAX_NETWORK_PIXELS:,} pixels are synthesised at once: is the pixel spacing right? Request fewer slices"
        )
    context = 2 * context_reach(network, slice_spacing_mm=ct.spacing_mm[0]) + 1 + network.ct_channels
    inside = pixels * (ACTIVATION_MAPS * network.base_channels + context)
    return FLOAT32_BYTES * ((depth + slices * maps + CT_SLICES) * rows * columns + inside)
