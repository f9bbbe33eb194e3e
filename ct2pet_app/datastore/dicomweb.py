"""A PACS as MONAI Label's datastore: its studies (`pacs_studies.py`), and series stored in it over STOW-RS."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from monailabel.config import settings as monailabel_settings

from ct2pet_app.datastore.pacs_studies import PacsStudies
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.server.monai_label import running_server
from ct2pet_app.settings import AppSettings
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.pacs import Pacs, Prefixes
from lib.dicom.remote.session import Credentials
from lib.dicom.write.pet_series import SyntheticSeries
from lib.memory import MemoryBudget
from lib.pairing.split import Split

logger = logging.getLogger(__name__)

__all__ = ["DicomwebDatastore", "PacsStudies", "dicomweb_datastore"]


class DicomwebDatastore(StudiesDatastore):
    """The datastore of ``--studies https://.../dicom-web``."""

    def __init__(
        self,
        pacs: Pacs,
        studies: PacsStudies,
        writable: Path,
        *,
        split: Split = Split(),
        budget: MemoryBudget | None = None,
    ) -> None:
        super().__init__(studies, writable, split=split, budget=budget)
        self._pacs = pacs
        self._pacs_studies = studies

    def store_series(self, series: SyntheticSeries) -> None:
        """Store a synthetic PET series in the PACS; the same one again changes nothing there.

        Raises:
            RemoteError: The request failed, or the PACS refused an instance. Accepted instances stay there.
        """
        self._pacs.store(series.datasets())

    def keep_files(self, files: Mapping[str, Sequence[Path]]) -> None:
        """Store the files of series in the PACS; those that are there already stay as they are.

        Raises:
            RemoteError: The request failed, or the PACS refused an instance. Accepted instances stay there.
        """
        for paths in files.values():
            self._pacs.store_files(paths)

    def close(self) -> None:
        """Stop the background threads."""
        super().close()
        self._pacs_studies.close()


def dicomweb_datastore(url: str, settings: AppSettings, *, budget: MemoryBudget | None = None) -> DicomwebDatastore:
    """Return the datastore of a PACS, under MONAI Label's own settings (``MONAI_LABEL_...``). Sends no request yet.

    Raises:
        InputError: An invalid DICOMweb URL, or only one of user name and password.
    """
    stock = monailabel_settings
    credentials = Credentials(
        username=stock.MONAI_LABEL_DATASTORE_USERNAME or stock.MONAI_LABEL_DICOMWEB_USERNAME,
        password=stock.MONAI_LABEL_DATASTORE_PASSWORD or stock.MONAI_LABEL_DICOMWEB_PASSWORD,
        token=stock.MONAI_LABEL_DATASTORE_API_KEY,
    )
    prefixes = Prefixes(stock.MONAI_LABEL_QIDO_PREFIX, stock.MONAI_LABEL_WADO_PREFIX, stock.MONAI_LABEL_STOW_PREFIX)
    pacs = Pacs(url, credentials, prefixes)
    if credentials != Credentials() and pacs.url.startswith("http://"):
        logger.warning("%s: the password or token travels unencrypted; use https:// where the PACS can", pacs.url)
    chosen = stock.MONAI_LABEL_DATASTORE_CACHE_PATH or stock.MONAI_LABEL_DICOMWEB_CACHE_PATH
    folder = Path(chosen) if chosen else settings.models_folder / "pacs"
    cache = SeriesCache(folder / "series", pacs, limit_bytes=settings.cache_bytes)
    filters = {key: str(value) for key, value in stock.MONAI_LABEL_DICOMWEB_SEARCH_FILTER.items() if key != "Modality"}
    studies = PacsStudies(pacs, cache, index=folder / "index.sqlite", filters=filters, waits=running_server() is None)
    return DicomwebDatastore(pacs, studies, settings.models_folder, split=settings.split, budget=budget)
