"""What the processes do that `test_killed.py` kills; in a module of its own, so that they import no test."""

from __future__ import annotations

from multiprocessing.synchronize import Event
from pathlib import Path

from ct2pet_app.app import CT2PETApp
from ct2pet_app.datastore.dicomweb import PacsStudies
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.settings import AppSettings
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.session import Credentials
from lib.pairing.pairs import PairedSeries
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.orthanc import PASSWORD, USER

EPOCHS = 30
TINY = "pixel_mm=16.0;depth=1;context_slices=1;normalization=none;patience=0;validation=0.0;test=0.0;workers=0"


def settings(folder: Path) -> dict[str, str]:
    """Return the `--conf` of a server with its models in a folder."""
    training = f"{TINY};epochs={EPOCHS}"
    return {"models": "unet", "models_folder": str(folder), "device": "cpu", "width": "2", "set": training}


def open_store(folder: Path) -> ModelRegistry:
    """Return the store of a server that starts now."""
    return ModelRegistry(AppSettings.from_conf(settings(folder), app_folder=folder))


def train_once(begun: Event, studies: Path, folder: Path) -> None:
    """Train as the child process of the server does."""
    begun.set()
    app = CT2PETApp(str(folder), str(studies), settings(folder))
    app._trainers["unet"]({"model": "unet", "publish": "always"}, app.datastore())


def publish_for_ever(begun: Event, folder: Path, scratch: Path) -> None:
    """Publish models that predict different SUVs, one after the other; roll back after every third."""
    models = open_store(folder)
    while True:
        count = len(models.versions("unet"))
        models.publish("unet", save_constant_model(scratch / "next.safetensors", 1 + count / 100, stages=1))
        if count % 3 == 2:
            models.roll_back("unet")
        begun.set()


def studies_of_pacs(url: str, folder: Path) -> tuple[PacsStudies, PairedSeries]:
    """Return the studies of an Orthanc, cached in a folder, and the one pair there is."""
    pacs = Pacs(url, Credentials(USER, PASSWORD))
    cache = SeriesCache(folder / "series", pacs, limit_bytes=10**9)
    studies = PacsStudies(pacs, cache, index=folder / "index.sqlite", filters={})
    (paired,) = studies.rescan().pairs.values()
    return studies, paired


def download_once(begun: Event, url: str, folder: Path) -> None:
    """Fetch the CT and the PET of the pair."""
    studies, paired = studies_of_pacs(url, folder)
    begun.set()
    with studies.local_files(paired.pair.ct, paired.pair.pet):
        pass
    studies.close()
