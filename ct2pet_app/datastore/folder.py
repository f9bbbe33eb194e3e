"""A folder of DICOM studies as MONAI Label's datastore. The studies are only read."""

from __future__ import annotations

from pathlib import Path

from ct2pet_app.datastore.listing import StudiesFolder
from ct2pet_app.datastore.studies import StudiesDatastore


class FolderDatastore(StudiesDatastore):
    """The datastore of ``--studies FOLDER``; scans at the first question, and again as the folder changes."""

    def __init__(self, studies: Path, writable: Path) -> None:
        super().__init__(StudiesFolder(studies, index=writable / "index.sqlite"), writable)
