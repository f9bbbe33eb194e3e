"""UIDs of synthetic series and instances, determined by the CT and the model."""

from __future__ import annotations

import uuid

from pydicom.dataset import Dataset

NAMESPACE = uuid.UUID("0b7c9f0e-3d3a-5f0c-9a55-6f6d2c1e8b47")  # ct2pet's namespace of synthetic PET
FORMAT = 1  # of the UIDs; unchanged by header corrections, so that a series stored again is not duplicated


def derived_uid(*parts: str) -> str:
    """Return a UID of the 2.25 arc (PS3.5 B.2) determined by `parts`."""
    return f"2.25.{uuid.uuid5(NAMESPACE, ' '.join((str(FORMAT), *parts))).int}"


def source_of(ct: Dataset, frame: int) -> str:
    """Return the identity of a CT slice: its SOPInstanceUID, and its frame number if the file has several."""
    return f"{ct.SOPInstanceUID} frame {frame}" if frame else str(ct.SOPInstanceUID)
