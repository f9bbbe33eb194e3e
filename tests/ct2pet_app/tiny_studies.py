"""Small studies that a test may change, and queries of a datastore on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import dcmread

from ct2pet_app.datastore.folder import FolderDatastore
from lib.phantom.generate import PhantomSettings

TINY = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
# by tests/pairing/test_split.py: the first is on the training side, the second tests
FIRST, SECOND = "PHANTOM_0001", "PHANTOM_0002"


def change(folder: Path, alter: Callable[[Any], None], to: Path) -> Path:
    """Return a copy of a series with its headers or pixels altered."""
    to.mkdir(parents=True)
    for file in sorted(folder.glob("*.dcm")):
        dataset = dcmread(file)
        alter(dataset)
        dataset.save_as(to / file.name)
    return to


def in_thousands(dataset: Any) -> None:
    dataset.RescaleSlope = float(f"{float(dataset.RescaleSlope) * 1000:.8g}")


def counts(datastore: FolderDatastore) -> dict[str, Any]:
    pairs: dict[str, Any] = datastore.status()["pairs"]
    return pairs


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
