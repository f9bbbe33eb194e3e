"""`scripts/demo`, the first command of the README, on given studies and with a second of training."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.tiny_studies import TINY
from tests.documents.commands import ROOT


@pytest.mark.server
@pytest.mark.slow
def test_the_demonstration_ends_with_a_picture_and_metrics(tmp_path: Path) -> None:
    studies, out = tmp_path / "studies", tmp_path / "demo"
    write_phantoms(studies, patients=4, settings=TINY)
    options = ("--studies", studies, "--out", out, "--model", "unet", "--minutes", "0.01")
    done = subprocess.run(
        [ROOT / "scripts" / "demo", *options], env={**os.environ, "CT2PET_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "synthetic-pet.nrrd").is_file() and (out / "picture.png").is_file()
    assert "body MAE [SUV]" in done.stdout and "hu_median" in done.stdout
