"""Where the patient is: the mask inside which a PET is judged."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from lib.imaging.volume import Volume
from lib.types import BoolArray

BODY_THRESHOLD_HU = -500.0  # half way between air and soft tissue
CLOSING_MM = 6.0  # bridges skin folds and the trachea's mouth; chosen on phantom and sarcoma CTs


def body_mask(ct: Volume) -> BoolArray:
    """Return the body: above -500 HU, closed, holes of each slice filled (lungs and bowel gas are body), (K, R, C)."""
    _, row_mm, column_mm = ct.geometry.spacing_mm
    radius = (max(1, round(CLOSING_MM / 2 / column_mm)), max(1, round(CLOSING_MM / 2 / row_mm)))
    mask = np.empty(ct.array.shape, dtype=np.bool_)
    for k, ct_hu in enumerate(ct.array):
        above = sitk.GetImageFromArray((ct_hu > BODY_THRESHOLD_HU).astype(np.uint8))
        closed = sitk.BinaryMorphologicalClosing(above, radius, sitk.sitkBall)
        mask[k] = sitk.GetArrayFromImage(sitk.BinaryFillhole(closed)).astype(np.bool_)
    return mask
