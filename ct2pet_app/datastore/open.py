"""The datastore that ``--studies`` names: a folder, or a PACS where it is an address."""

from __future__ import annotations

from pathlib import Path

from ct2pet_app.datastore.folder import FolderDatastore
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.settings import AppSettings
from lib.memory import MemoryBudget


def open_datastore(studies: str, settings: AppSettings, *, budget: MemoryBudget) -> StudiesDatastore:
    """Return the datastore; reads nothing yet.

    Raises:
        InputError: An invalid address or credentials of a PACS.
    """
    if studies.startswith(("http://", "https://")):
        # here, because its cache needs the file locks of Linux and macOS, and a folder does not
        from ct2pet_app.datastore.dicomweb import dicomweb_datastore

        return dicomweb_datastore(studies, settings, budget=budget)
    return FolderDatastore(Path(studies), settings.models_folder, split=settings.split, budget=budget)
