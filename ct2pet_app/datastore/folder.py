"""A folder of DICOM studies as MONAI Label's datastore. The studies are only read; a series is added when asked for."""

from __future__ import annotations

from pathlib import Path

from ct2pet_app.datastore.listing import StudiesFolder
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.errors import RequestError
from lib.dicom.synthetic import SyntheticSeries
from lib.dicom.write import write_series

STORED = "synthetic-pet"  # in the studies folder: one folder a stored series in it, named by its UID, which is ours


class FolderDatastore(StudiesDatastore):
    """The datastore of ``--studies FOLDER``; scans at the first question, and again as the folder changes."""

    def __init__(self, studies: Path, writable: Path) -> None:
        super().__init__(StudiesFolder(studies, index=writable / "index.sqlite"), writable)
        self._root = studies

    def store_series(self, series: SyntheticSeries) -> None:
        """Write a synthetic PET series into the studies folder, `synthetic-pet/<SeriesInstanceUID>`, never beyond it.

        Raises:
            InputError: That folder may not be written, holds other files, or is a link that leaves the studies.
            OutputError: The disk is full; nothing half-written is left.
        """
        root = self._root.resolve()
        folder = root / STORED / series.uid
        if not folder.resolve().is_relative_to(root):
            raise RequestError(f"store: {STORED} in the studies folder is a link that leaves it; make it a folder")
        write_series(series, folder)
