"""`pair` measures the misalignment of each PET once, and not at all with --no-shift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lib.imaging.geometry import Geometry
from lib.pairing.quality_checks import cached_checks
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.cli.runner import run, run_json

pytestmark = pytest.mark.usefixtures("own_cache")

CONTRACT = {
    "patient_id", "study_instance_uid", "ct_series_instance_uid", "pet_series_instance_uid",
    "ct_slices", "pet_slices", "slice_pairs", "max_offset_mm",
}  # fmt: skip


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom 2 with a PET shifted by 10 mm to the left and 5 mm to the front."""
    patient = phantom_patient(2, 0, PhantomSettings(ct_matrix=100, ct_pixel_mm=4.1))
    affine = patient.pet.geometry.affine.copy()
    affine[:3, 3] += (10, -5, 0)
    root = tmp_path_factory.mktemp("studies")
    pet = replace(patient.pet, geometry=Geometry(patient.pet.geometry.shape, affine))
    write_study(replace(patient, pet=pet), root / patient.patient_id)
    return root


def test_pair_shows_the_shift_and_measures_it_once(
    studies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = run_json(capsys, "pair", studies)
    assert set(record) >= CONTRACT
    assert record["slice_pairs"] == 40
    assert record["shift_mm"] == pytest.approx((10, -5, 0), abs=2)
    assert all(0 <= sd <= 2 for sd in record["shift_sd_mm"])
    assert record["diaphragm_shift_mm"] == pytest.approx(0, abs=2) and record["shift_note"] == ""
    monkeypatch.setattr(
        cached_checks, "check_pair", lambda paired: pytest.fail(f"{paired.pair.ct.uid} is measured again")
    )
    assert run_json(capsys, "pair", studies) == [record]


def test_pair_shows_the_shift_in_its_table(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "pair", studies)
    assert code == 0 and "shift mm" in out and ("x +10." in out or "x +9." in out)


def test_pair_without_shift_has_no_shift_keys(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = run_json(capsys, "pair", studies, "--no-shift")
    assert set(record) >= CONTRACT
    assert not any("shift" in name for name in record)
