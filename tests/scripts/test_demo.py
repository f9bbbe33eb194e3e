"""scripts/demo, the first command of the README, on phantoms of few slices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.conftest import REPOSITORY

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)


@pytest.mark.server
@pytest.mark.slow
def test_the_demonstration_trains_and_shows_a_patient_whom_it_was_not_trained_on(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "studies", patients=10, settings=SMALL)
    options = ["--studies", tmp_path / "studies", "--out", tmp_path / "out", "--model", "unet", "--minutes", "0.05"]
    done = subprocess.run(
        [REPOSITORY / "scripts" / "demo", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 CT/PET pairs" in done.stdout and "(not used for training)" in done.stdout
    assert "hu_median" in done.stdout and "NOT FOR DIAGNOSIS" in done.stdout
    assert read_volume_file(tmp_path / "out" / "synthetic-pet.nrrd", unit=Unit.SUV_BW).geometry.shape == (6, 64, 64)
    assert (tmp_path / "out" / "picture.png").stat().st_size > 10_000
