"""Check the voxel-to-patient matrix of a volume file: finite, not singular, not sheared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lib.errors import ImageFileError

MIN_SPACING_MM = 1e-3  # a hundredth of the finest micro-CT; a shorter axis counts as singular
SHEAR_TOLERANCE_DEG = 0.1  # as of DICOM's cosines (lib/dicom/read/slice_order.py); a gantry tilt is 1 degree and more
AXES = ("column", "row", "slice")
EXPORT = "export the volume again"


def refuse_unfit_affine(affine: NDArray[np.float64], *, name: str, matrix: str) -> None:
    """Raise an error unless an affine places voxels on a rectangular grid.

    Args:
        affine: Shape (4, 4), voxel (column, row, slice) to mm.
        name: File name, for the message.
        matrix: Name of the matrix in the message: sform, qform, direction.

    Raises:
        ImageFileError: NaN or infinite values, an axis of length 0, or axes that are not perpendicular.
    """
    if not np.isfinite(affine).all():
        raise ImageFileError(f"{name}: its {matrix} contains NaN or infinite numbers, expected finite ones; {EXPORT}")
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
                f"{name}: its {matrix} is sheared: {AXES[a]} and {AXES[b]} axis deviate {off_deg:.2f} degrees from the "
                f"right angle, expected at most {SHEAR_TOLERANCE_DEG:g} (a gantry tilt?); resample it to a rectangular "
                "grid"
            )
