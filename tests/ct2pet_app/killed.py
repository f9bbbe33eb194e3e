"""What the processes do that `test_killed.py` kills; in a module of its own, so that they import no test."""

from __future__ import annotations

from multiprocessing.synchronize import Event
from pathlib import Path

from ct2pet_app.app import CT2PETApp
from ct2pet_app.models import ModelStore
from ct2pet_app.settings import AppSettings
from tests.ct2pet_app.constant_model import save_constant_model

EPOCHS = 30
TINY = "pixel_mm=16.0;depth=1;context_slices=1;normalization=none;patience=0;validation=0.0;test=0.0;workers=0"


def settings(folder: Path) -> dict[str, str]:
    """Return the `--conf` of a server whose models lie in a folder."""
    training = f"{TINY};epochs={EPOCHS}"
    return {"models": "unet", "models_folder": str(folder), "device": "cpu", "width": "2", "set": training}


def open_store(folder: Path) -> ModelStore:
    """Return the store of a server that starts now."""
    return ModelStore(AppSettings.from_conf(settings(folder), app_folder=folder))


def train_once(begun: Event, studies: Path, folder: Path) -> None:
    """Train as the child process of the server does."""
    begun.set()
    app = CT2PETApp(str(folder), str(studies), settings(folder))
    app._trainers["unet"]({"model": "unet", "publish": "always"}, app.datastore())


def publish_for_ever(begun: Event, folder: Path, scratch: Path) -> None:
    """Publish one model after the other, each of which draws another SUV; go back after every third."""
    models = open_store(folder)
    while True:
        count = len(models.versions("unet"))
        models.publish("unet", save_constant_model(scratch / "next.safetensors", 1 + count / 100, stages=1))
        if count % 3 == 2:
            models.roll_back("unet")
        begun.set()
