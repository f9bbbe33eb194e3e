"""Folders in the studies folder into which the server writes; each series appears there in one step."""

from __future__ import annotations

STORED = "synthetic-pet"  # one folder a stored series in it, named by its UID, which is ours
KEPT = "uploaded-pairs"  # contains one folder with a random name per upload
RECEIVED = "dicom-received"  # contains one folder per series that a DICOM node has received, named by its UID
