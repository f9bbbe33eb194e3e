"""An app in this process, on two small phantoms: what needs no server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ct2pet_app.app import CT2PETApp
from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two phantom studies; read-only by agreement."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, patients=2, settings=SMALL)
    return folder


@pytest.fixture(scope="session")
def ct_uids(phantoms: Path) -> tuple[str, ...]:
    """The UIDs of their CT series, in the order of patients."""
    return tuple(found.series.uid for found in scan_folder(phantoms).usable("CT"))


@pytest.fixture
def make_app(phantoms: Path, tmp_path: Path) -> Callable[..., CT2PETApp]:
    """Return a function that builds the app on the phantoms; its keywords are `--conf` settings."""

    def make(studies: Path = phantoms, **conf: str) -> CT2PETApp:
        settings = {"models_folder": str(tmp_path / "models"), "device": "cpu", "models": "unet,cascade3", **conf}
        return CT2PETApp(str(tmp_path), str(studies), settings)

    return make
