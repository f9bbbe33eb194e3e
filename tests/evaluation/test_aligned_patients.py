"""The scores with and without patients whose real PET is misaligned with the CT."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.evaluation.evaluate import Evaluation, evaluate_pairs
from lib.imaging.geometry import Geometry
from lib.pairing.pairs import pair_series
from lib.pairing.quality_checks.alignment import Shift
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.evaluation.test_report import Lookup

MODEST = PhantomSettings(slices=20, slice_spacing_mm=5.0, ct_matrix=100, ct_pixel_mm=4.1)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory, out: Path) -> Evaluation:
    """Phantoms 2 and 4; the PET of the second is shifted by 20 mm to the left."""
    root = tmp_path_factory.mktemp("phantoms")
    for number, left_mm in ((2, 0), (4, 20)):
        patient = phantom_patient(number, 0, MODEST)
        affine = patient.pet.geometry.affine.copy()
        affine[0, 3] += left_mm
        pet = replace(patient.pet, geometry=Geometry(patient.pet.geometry.shape, affine))
        write_study(replace(patient, pet=pet), root / patient.patient_id)
    model: Any = Lookup()
    return evaluate_pairs(pair_series(scan_folder(root)).pairs, model, out)


def test_each_patient_has_a_shift_and_both_scores_are_reported(evaluation: Evaluation, out: Path) -> None:
    result = json.loads((out / "evaluation.json").read_text())
    first, second = result["patients"]
    assert first["shift_mm"][:2] == pytest.approx((0, 0), abs=2)
    assert second["shift_mm"][:2] == pytest.approx((20, 0), abs=2)
    aligned = result["aligned"]
    assert (aligned["max_shift_mm"], aligned["patients"]) == (10.0, 1)
    assert [pair["patient_id"] for pair in aligned["left_out"]] == ["PHANTOM_0004"]
    assert aligned["mean"]["mae_suv_body"] == pytest.approx(first["mae_suv_body"])
    assert result["mean"]["mae_suv_body"] == pytest.approx((first["mae_suv_body"] + second["mae_suv_body"]) / 2)
    assert aligned["mean"]["mae_suv_body"] < result["mean"]["mae_suv_body"]
    assert aligned["baselines"]["zero"]["mae_suv_body"] == pytest.approx(first["baselines"]["zero"]["mae_suv_body"])


def test_the_report_shows_both_scores(evaluation: Evaluation, out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    all_pairs, aligned = (
        f"{metrics.mae_suv_body:.3f}" for metrics in (evaluation.mean("model"), evaluation.aligned.means["model"])
    )
    assert (
        f"PETs shifted from the CT by more than 10 mm: PHANTOM_0004. With them: body MAE {all_pairs} SUV over all "
        f"evaluated patients. Without them: {aligned} SUV over 1 patient." in page
    )
    assert f"<td>model</td><td>{all_pairs}</td><td>{aligned}</td>" in page
    assert '<td class="wrap shift" title="' in page
    assert re.search(r"x\s\+(20|19)\.", page)  # the space does not break


def test_without_misaligned_pairs_there_is_one_score(evaluation: Evaluation) -> None:
    aligned = replace(
        evaluation, patients=tuple(replace(one, shift=Shift((1.0, 1.0, 1.0))) for one in evaluation.patients)
    )
    assert aligned.aligned.excluded == ()
    assert aligned.aligned.means["model"] == aligned.mean("model")
    misaligned = replace(
        evaluation, patients=tuple(replace(one, shift=Shift((30.0, 1.0, 1.0))) for one in evaluation.patients)
    )
    assert misaligned.aligned.as_json()["mean"] is None and misaligned.aligned.patients == 0
    assert replace(misaligned, max_shift_mm=0.0).aligned.excluded == ()  # no limit
