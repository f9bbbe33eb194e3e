"""Mask of the patient's body on a CT; PET metrics are computed inside it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from lib.imaging.volume import Volume
from lib.types import BoolArray

BODY_THRESHOLD_HU = -500.0  # half way between air and soft tissue
CLOSING_MM = 6.0  # closes skin folds and the opening of the trachea; chosen on phantom and sarcoma CTs


def body_mask(ct: Volume) -> BoolArray:
    """Return the body mask, shape (K, R, C).

    Voxels above -500 HU, closed, with the holes of each slice filled, so that lungs and bowel gas belong to the body.
    """
    _, row_mm, column_mm = ct.geometry.spacing_mm
    radius = (max(1, round(CLOSING_MM / 2 / column_mm)), max(1, round(CLOSING_MM / 2 / row_mm)))
    mask = np.empty(ct.array.shape, dtype=np.bool_)
    for k, ct_hu in enumerate(ct.array):
        above = sitk.GetImageFromArray((ct_hu > BODY_THRESHOLD_HU).astype(np.uint8))
        closed = sitk.BinaryMorphologicalClosing(above, radius, sitk.sitkBall)
        mask[k] = sitk.GetArrayFromImage(sitk.BinaryFillhole(closed)).astype(np.bool_)
    return mask
