"""Six tiny studies, two models, and a cohort of them that the engine `local` has made."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import main
from lib.phantom.generate import write_phantoms
from tests.conftest import missing
from tests.ct2pet_app.constant_model import save_constant_model, save_sensitive_model
from tests.ct2pet_app.tiny_studies import TINY

STUDIES = 6


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the commands keep their index of scanned folders, and files of a PACS, to themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CT2PET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_phantoms(folder, patients=STUDIES, settings=TINY)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose PET depends on the CT."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return save_sensitive_model(path, ("pixel_mm=6.4", "base_channels=2", "depth=1"))


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with baselines, which predicts 1.5 SUV everywhere."""
    return save_constant_model(tmp_path_factory.mktemp("other") / "other.safetensors", 1.5, stages=1)


@pytest.fixture(scope="session")
def local_cohort(studies: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished cohort."""
    out = tmp_path_factory.mktemp("local")
    assert main.main(["cohort", "run", str(studies), "--model", str(model), "--out", str(out)]) == 0
    return out


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without another cluster."""
    if importlib.util.find_spec("ray") is None:
        missing("ray", "requirements-ray.txt is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
