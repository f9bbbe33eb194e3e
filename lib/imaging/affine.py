"""What a file's voxel-to-patient matrix must be before a volume is made of it: finite, not singular, not sheared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lib.errors import ImageFileError

MIN_SPACING_MM = 1e-3  # a hundredth of the finest micro-CT; below it an axis has no length
SHEAR_TOLERANCE_DEG = 0.1  # as of DICOM's cosines (lib/dicom/read/slice_order.py); a gantry tilt is 1 degree and more
AXES = ("column", "row", "slice")
EXPORT = "export the volume again"


def refuse_unfit_affine(affine: NDArray[np.float64], *, name: str, matrix: str) -> None:
    """Return when an affine places voxels on a rectangular grid.

    Args:
        affine: 4 x 4, voxel (column, row, slice) to mm.
        name: The file, for the message.
        matrix: What the message calls it: sform, qform, direction.

    Raises:
        ImageFileError: NaN or infinite, an axis without length, or axes that are not perpendicular.
    """
    if not np.isfinite(affine).all():
        raise ImageFileError(f"{name}: its {matrix} holds NaN or infinite numbers, so voxels have no place; {EXPORT}")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < MIN_SPACING_MM:
        axis = AXES[int(lengths.argmin())]
        raise ImageFileError(
            f"{name}: its {matrix} is singular: the {axis} axis has length {lengths.min():g}; {EXPORT}"
        )
    unit = affine[:3, :3] / lengths
    for a, b in ((0, 1), (0, 2), (1, 2)):
        off_deg = abs(float(np.degrees(np.arcsin(np.clip(unit[:, a] @ unit[:, b], -1, 1)))))
        if off_deg > SHEAR_TOLERANCE_DEG:
            raise ImageFileError(
                f"{name}: its {matrix} is sheared: {AXES[a]} and {AXES[b]} axis stand {off_deg:.2f} degrees off the "
                f"right angle, expected at most {SHEAR_TOLERANCE_DEG:g} (a gantry tilt?); resample it to a rectangular "
                "grid"
            )
