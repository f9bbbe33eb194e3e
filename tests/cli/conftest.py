"""Phantom studies, their arrays, and a model trained on them, made once per session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import main
from lib.phantom.dicom import write_study
from lib.phantom.generate import phantom_patient
from tests.cli.runner import COARSE, SETTINGS

# In the default split 1 and 3 are train, 7 is validation, 2 is test: see tests/pairing/test_split.py
PATIENTS = (1, 2, 3, 7)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give session fixtures a cache of their own instead of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CT2PET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    for number in PATIENTS:
        patient = phantom_patient(number, 0, COARSE)
        write_study(patient, root / patient.patient_id)
    return root


@pytest.fixture(scope="session")
def arrays(cache: None, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("arrays")
    assert main.main(["prepare", str(studies), "--out", str(out), *SETTINGS]) == 0
    return out


@pytest.fixture(scope="session")
def model(arrays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main.main(["train", str(arrays), "--out", str(run), *SETTINGS]) == 0
    return run / "model.safetensors"
