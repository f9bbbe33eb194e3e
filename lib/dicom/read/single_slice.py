"""Reading of one slice of a CT series, without the others."""

from __future__ import annotations

import numpy as np

from lib.dicom.read.frame_pixels import read_frames
from lib.dicom.read.header import read_header
from lib.dicom.read.pixels import read_slice
from lib.dicom.read.volume import CT_FLOOR_HU
from lib.errors import DicomError
from lib.types import FloatArray, Series, SliceSource


def read_ct_slice(series: Series, source: SliceSource, *, shape: tuple[int, int]) -> FloatArray:
    """Return one slice of a CT in HU, (R, C); padding below -1024 becomes -1024.

    Args:
        series: To which the file has to belong.
        source: Its file, which has to be on this machine, and the frame.
        shape: (R, C) by the listing; a file of another size is refused before its pixels are decoded.

    Raises:
        DicomError: The file is missing, damaged, or not such a slice.
    """
    try:
        shared = read_header(source.path).shared
    except OSError as error:
        raise DicomError(f"series {series.uid}: {source.path.name} cannot be opened ({error.strerror})") from error
    if (shared.series_instance_uid, shared.modality) != (series.uid, "CT"):
        raise DicomError(
            f"series {series.uid}: {source.path.name} is of series {shared.series_instance_uid}, {shared.modality}"
        )
    if (shared.rows, shared.columns) != shape:
        found = f"{shared.rows} x {shared.columns}"
        raise DicomError(f"series {series.uid}: a slice of {found} pixels, expected {shape[0]} x {shape[1]}")
    if source.frame == 0:
        values = read_slice(source.path).values
    else:
        (frame,) = read_frames(source.path, [source.frame])
        values = frame.values
    return np.maximum(values, np.float32(CT_FLOOR_HU))
