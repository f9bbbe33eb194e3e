"""Where a DICOM node keeps its files: the queue with the models, the series with the studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ct2pet_app.datastore.own_folders import RECEIVED
from lib.dicom.scan.folder import UNFINISHED

FOLDER = "dicom-node"  # in the models folder


@dataclass(frozen=True)
class NodeLayout:
    """The folders and files of a node.

    Attributes:
        studies: The folder of the studies.
        models_folder: The server's.
    """

    studies: Path
    models_folder: Path

    @property
    def home(self) -> Path:
        """The folder of the queue, the results that wait to be sent, and the audit trail."""
        return self.models_folder / FOLDER

    @property
    def queue(self) -> Path:
        """The SQLite file of received series and jobs."""
        return self.home / "queue.sqlite"

    @property
    def audit(self) -> Path:
        """The audit trail."""
        return self.home / "audit.jsonl"

    @property
    def outbox(self) -> Path:
        """Results that wait to be sent, as zip files."""
        return self.home / "outbox"

    @property
    def received(self) -> Path:
        """Complete series, one folder each."""
        return self.studies / RECEIVED

    @property
    def incoming(self) -> Path:
        """Files that are being received; hidden from the scan of the studies, on the same file system."""
        return self.received / f".incoming{UNFINISHED}"

    def series(self, series_uid: str) -> Path:
        """The folder of a complete series."""
        return self.received / series_uid

    def unfinished_series(self, series_uid: str) -> Path:
        """The folder of a series that is arriving; hidden from the scan of the studies."""
        return self.received / f".{series_uid}{UNFINISHED}"

    def create(self) -> None:
        """Create the folders.

        Raises:
            OSError: One cannot be created.
        """
        for folder in (self.home, self.outbox, self.incoming):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
