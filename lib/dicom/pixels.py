"""The stored numbers of one DICOM file, as physical numbers: slope x stored + intercept of this very slice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from lib.errors import DicomError, MissingAttributeError

TAGS = [
    "Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "PixelData",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class StoredSlice:
    """A slice as stored, and how its numbers become physical ones; `values` is (R, C) of any number type."""

    values: NDArray[np.generic]
    slope: float
    intercept: float


def read_slice(path: Path) -> StoredSlice:
    """Return the pixels of one single-frame greyscale file.

    Raises:
        DicomError: Truncated, or compressed in a way that cannot be undone here.
        MissingAttributeError: No RescaleSlope.
    """
    try:
        dataset = dcmread(path, force=True, specific_tags=TAGS)
        compressed = UID(dataset.file_meta.get("TransferSyntaxUID", "")).is_compressed
    except ...:
        ...
