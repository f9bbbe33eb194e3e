"""Volume of metal in a CT."""

from __future__ import annotations

import numpy as np

from lib.imaging.volume import Volume

METAL_HU = 2500.0  # compact bone stays below 2000 HU, enamel may reach 3000


def metal_volume_ml(ct: Volume) -> float:
    """Return the volume above `METAL_HU`, mL; slice by slice, so that no copy of the CT is needed."""
    voxels = sum(int(np.count_nonzero(ct_hu > METAL_HU)) for ct_hu in ct.array)
    return round(voxels * float(np.prod(ct.geometry.spacing_mm)) / 1000, 2)
