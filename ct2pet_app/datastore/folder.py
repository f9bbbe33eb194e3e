"""A folder of DICOM studies as MONAI Label's datastore. Studies are only read; series are added on request."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct2pet_app.datastore.own_folders import KEPT, RECEIVED, STORED
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.datastore.study_index import StudiesFolder
from ct2pet_app.errors import RequestError
from lib.dicom.scan.folder import UNFINISHED
from lib.dicom.write.files import write_series
from lib.dicom.write.pet_series import SyntheticSeries
from lib.errors import InputError, OutputError
from lib.files import remove_abandoned, unfinished_folder
from lib.memory import MemoryBudget
from lib.pairing.split import Split


class FolderDatastore(StudiesDatastore):
    """The datastore of ``--studies FOLDER``; scans at the first question, and again as the folder changes."""

    def __init__(
        self, studies: Path, writable: Path, *, split: Split = Split(), budget: MemoryBudget | None = None
    ) -> None:
        folder = StudiesFolder(studies, index=writable / "index.sqlite", own_folders=(STORED, KEPT, RECEIVED))
        super().__init__(folder, writable, split=split, budget=budget)
        self._root = studies

    def store_series(self, series: SyntheticSeries) -> None:
        """Write a synthetic PET series into the studies folder, `synthetic-pet/<SeriesInstanceUID>`, never beyond it.

        Raises:
            InputError: That folder may not be written, holds other files, or is a link that leaves the studies.
            OutputError: The disk is full; no partial files remain.
        """
        write_series(series, self._inside(STORED) / series.uid)

    def keep_files(self, files: Mapping[str, Sequence[Path]]) -> None:
        """Copy the files of series into the studies folder, `uploaded-pairs/...`, where they appear in one step.

        Raises:
            InputError: That folder may not be written, or is a link that leaves the studies.
            OutputError: The disk is full; no partial files remain.
        """
        home = self._inside(KEPT)
        try:
            home.mkdir(parents=True, exist_ok=True)
            with unfinished_folder(home, UNFINISHED) as tmp_path:
                for number, paths in enumerate(files.values(), start=1):
                    folder = tmp_path / f"{number}"
                    folder.mkdir(parents=True)
                    for place, path in enumerate(paths, start=1):
                        shutil.copyfile(path, folder / f"{place:05d}.dcm")
                tmp_path.replace(home / uuid.uuid4().hex)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{KEPT} in the studies folder: cannot be written ({error.strerror})") from error
        except OSError as error:
            raise OutputError(
                f"{KEPT} in the studies folder: cannot be written ({error.strerror}); no files remain there; free space"
            ) from error

    def remove_leftovers(self) -> None:
        """Remove what killed processes had begun to write, here and in the studies folder; nothing of living ones."""
        super().remove_leftovers()
        for name in (STORED, KEPT):
            with contextlib.suppress(RequestError, OSError):  # a link that leaves the folder, or not readable
                home = self._inside(name)
                remove_abandoned((*home.glob(f".*{UNFINISHED}"), *home.glob(f"*/.*{UNFINISHED}")))

    def _inside(self, name: str) -> Path:
        """Return a folder in the studies folder, never beyond it."""
        root = self._root.resolve()
        if not (root / name).resolve().is_relative_to(root):
            raise RequestError(f"{name} in the studies folder is a link that leaves it; make it a folder")
        return root / name
