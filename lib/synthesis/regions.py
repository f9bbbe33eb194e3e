"""Uptake of a region of a synthetic PET, and its prediction intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.imaging.orientation import VoxelOrder, canonical_geometry
from lib.imaging.regions import Box, Sphere, region_box, region_mask
from lib.imaging.volume import Volume


@dataclass(frozen=True)
class RegionUptake:
    """Uptake of the part of a region that is inside the body: volume in mL, mean and maximum in SUVbw."""

    volume_ml: float
    suv_mean: float
    suv_max: float


def measure_region(pet: Volume, ct: Volume, region: Sphere | Box, *, slices: slice | None = None) -> RegionUptake:
    """Return the uptake of a region in a synthetic PET; voxels outside the body do not count.

    Args:
        pet: SUVbw, on the CT's grid, or on a slab of it.
        ct: The full CT in HU.
        region: In LPS mm.
        slices: Slices of the CT that the PET covers; all by default.

    Raises:
        InputError: No voxel of the region is in the PET and in the body.
    """
    from lib.imaging.body import body_mask  # needs SimpleITK, which a training machine may lack

    order = VoxelOrder.of(ct.geometry)
    axial, rows, columns = order.box(slices or slice(None))
    geometry = canonical_geometry(pet.geometry)
    box = region_box(region, geometry)
    if box is None:
        raise _outside(region)
    inside = region_mask(region, geometry, box)
    ct_hu, ct_geometry = order.canonical(ct.array), canonical_geometry(ct.geometry)
    for number, k in enumerate(range(axial.start + box[0].start, axial.start + box[0].stop)):
        one = Volume(np.ascontiguousarray(ct_hu[k : k + 1]), ct_geometry.slab(slice(k, k + 1)), ct.unit)
        inside[number] &= body_mask(one)[0][rows, columns][box[1:]]
    suvs = order.canonical(pet.array)[box][inside]
    if not suvs.size:
        raise _outside(region)
    voxel_ml = float(np.prod(geometry.spacing_mm)) / 1000
    return RegionUptake(suvs.size * voxel_ml, float(suvs.mean(dtype=np.float64)), float(suvs.max()))


def slices_of_region(region: Sphere | Box, geometry: Geometry) -> slice:
    """Return the slices of a CT, in the order of its file, that hold a region.

    Raises:
        InputError: The region is outside the CT.
    """
    box = region_box(region, geometry)
    if box is None:
        raise _outside(region)
    return box[0]


def _outside(region: Sphere | Box) -> InputError:
    x, y, z = region.center_mm
    return InputError(
        f"the region around ({x:g}, {y:g}, {z:g}) mm holds no voxel of the body in the synthesised slices; give its "
        "centre in the CT's coordinates (LPS: towards left, back and head)",
        code="region_outside",
    )
