"""A model on pairs of patients: who was judged, who was not and why, and what is left on disk."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from lib.dicom.scan.scan import scan_folder
from lib.errors import PairingError
from lib.evaluation.evaluate import Evaluation, evaluate_pairs
from lib.learning.checkpoint import save_checkpoint
from lib.learning.model_card.card import TrainingData, patient_digest
from lib.metrics.image import ImageMetrics
from lib.metrics.volume import VolumeMetrics
from lib.networks.cascade import Cascade
from lib.pairing.pairs import PairedSeries, pair_series
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card, tiny_recipe

COARSE = PhantomSettings(slices=12, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
METRICS = {field.name for field in dataclasses.fields(ImageMetrics)}
IN_3D = {field.name for field in dataclasses.fields(VolumeMetrics)}
READ = (
    {"hu_share", "best_factor", "mae_suv_body_rescaled", "psnr_db_body_rescaled"}
    | {f"tumour_suv_{name}_error" for name in ("mean", "max", "peak")}
    | {f"hot_{name}" for name in ("sensitivity", "false_share", "overlap")}
)
CONTRACT = {"mae_suv", "psnr_db", "ssim", "ms_ssim", "vif", "mse"}  # DESIGN.md, each for the slice and `_body`
BASELINES = ["zero", "constant", "hu_mean", "hu_median"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairedSeries, ...]:
    """Patients 1 (trained on), 2 and 4 (never seen), 7 (chosen on)."""
    root = tmp_path_factory.mktemp("phantoms")
    for number in (1, 2, 4, 7):
        patient = phantom_patient(number, 0, COARSE)
        write_study(patient, root / patient.patient_id)
    return pair_series(scan_folder(root)).pairs


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    torch.manual_seed(0)
    recipe = tiny_recipe("pixel_mm=6.4")
    seen = TrainingData((patient_digest("PHANTOM_0001"),), (patient_digest("PHANTOM_0007"),), 1, 12, "0123")
    card = make_card(recipe=recipe, network=recipe.network, training=seen)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return Synthesizer.load(save_checkpoint(path, Cascade(recipe.network), card), device="cpu")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "new"


@pytest.fixture(scope="module")
def evaluation(pairs: tuple[PairedSeries, ...], synthesizer: Synthesizer, out: Path) -> Evaluation:
    return evaluate_pairs(pairs, synthesizer, out, note="phantoms")


def test_everybody_is_measured_and_said_to_be_seen_or_not(evaluation: Evaluation) -> None:
    assert {result.patient_id: result.seen for result in evaluation.patients} == {
        "PHANTOM_0001": "train",
        "PHANTOM_0002": "no",
        "PHANTOM_0004": "no",
        "PHANTOM_0007": "validation",
    }
    assert not evaluation.failed


def test_means_are_over_the_patients_never_seen(evaluation: Evaluation) -> None:
    assert [result.patient_id for result in evaluation.judged] == ["PHANTOM_0002", "PHANTOM_0004"]
    for method in ("model", *BASELINES):
        of_patients = [result.comparison.figures[method] for result in evaluation.judged]
        for name in ("mae_suv", "ssim_body", "psnr_db_body"):
            expected = sum(getattr(figures, name) for figures in of_patients) / 2
            assert getattr(evaluation.mean(method), name) == pytest.approx(expected)


def test_the_json_keeps_its_contract(evaluation: Evaluation, synthesizer: Synthesizer, out: Path) -> None:
    told = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert json.loads((out / "evaluation.json").read_text()) == told
    assert {"model", "patients", "mean", "baselines"} <= told.keys()
    assert told["model"] == {"name": "tiny", "sha256": synthesizer.checksum}
    assert list(told["baselines"]) == BASELINES
    assert CONTRACT | {f"{name}_body" for name in CONTRACT} <= told["mean"].keys()
    assert all(set(told["baselines"][name]) == METRICS for name in BASELINES)
    assert told["judged_patients"] == 2 and told["failed"] == []
    assert "monai" in told["versions"]["ssim"]
    for patient in told["patients"]:
        assert METRICS | {"patient_id", "seen", "ct_series_instance_uid", "pet_series_instance_uid"} <= patient.keys()
        assert list(patient["baselines"]) == BASELINES
        assert list(patient["in_3d"]) == list(patient["best_factor"]) == ["model", *BASELINES]
        assert set(patient["in_3d"]["model"]) == IN_3D


def test_the_table_has_a_line_for_each_patient_and_method(evaluation: Evaluation, out: Path) -> None:
    with (out / "patients.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["patient_id"], line["method"]) for line in lines[:2]] == [
        ("PHANTOM_0001", "model"),
        ("PHANTOM_0001", "zero"),
    ]
    assert len(lines) == 4 * 5 and lines[0].keys() == {"patient_id", "seen", "method", *METRICS, *IN_3D, *READ}
    for line in lines:
        result = next(found for found in evaluation.patients if found.patient_id == line["patient_id"])
        figures = result.comparison.figures[line["method"]]
        assert line["seen"] == result.seen and float(line["mae_suv"]) == figures.mae_suv


def test_two_pictures_a_pair_named_without_the_patient(evaluation: Evaluation, out: Path) -> None:
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 2 * 4 and not [path for path in pictures if "PHANTOM" in path.name]
    assert any(path.name.startswith(patient_digest("PHANTOM_0002")) for path in pictures)
    for path in pictures:
        with Image.open(path) as image:
            assert image.convert("L").getextrema()[1] > 200


def test_a_baseline_that_knows_nothing_is_as_far_off_as_the_pet_is_high(evaluation: Evaluation) -> None:
    zero = evaluation.mean("zero")
    assert zero.mae_suv_body == pytest.approx(-zero.bias_suv_body)
    assert zero.mae_suv_body > evaluation.mean("constant").mae_suv_body


def test_a_pair_that_fails_is_told_and_the_rest_goes_on(
    pairs: tuple[PairedSeries, ...], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    second = pairs[1]
    gone = dataclasses.replace(second.pair.pet, files=(tmp_path / "gone.dcm", *second.pair.pet.files[1:]))
    broken = dataclasses.replace(second, pair=dataclasses.replace(second.pair, pet=gone))
    told: list[tuple[int, int, str]] = []
    evaluation = evaluate_pairs(
        (broken, pairs[2]), synthesizer, tmp_path / "out", progress=lambda *step: told.append(step)
    )
    assert [result.patient_id for result in evaluation.judged] == ["PHANTOM_0004"]
    ((patient_id, ct_uid, reason),) = evaluation.failed
    assert (patient_id, ct_uid) == ("PHANTOM_0002", second.pair.ct.uid) and "gone.dcm" in reason
    assert evaluation.as_json()["failed"] == [
        {"patient_id": patient_id, "ct_series_instance_uid": ct_uid, "reason": reason}
    ]
    assert told == [(0, 2, "evaluating PHANTOM_0002"), (1, 2, "evaluating PHANTOM_0004"), (2, 2, "evaluated")]


def test_seen_patients_alone_prove_nothing(
    pairs: tuple[PairedSeries, ...], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    with pytest.raises(
        PairingError,
        match=r"none of the 2 pairs can be used and is of a patient that .* give studies of other patients",
    ):
        evaluate_pairs((pairs[0], pairs[3]), synthesizer, tmp_path)
    assert not list(tmp_path.iterdir())  # told before anything is drawn


def test_no_pairs_prove_nothing(synthesizer: Synthesizer, tmp_path: Path) -> None:
    with pytest.raises(PairingError, match="none of the 0 pairs"):
        evaluate_pairs((), synthesizer, tmp_path)


def test_why_nobody_could_be_judged_is_said(
    pairs: tuple[PairedSeries, ...], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    no_baselines = Synthesizer(
        synthesizer._cascade,
        dataclasses.replace(synthesizer.card, baselines=None),
        checksum="0",
        device=synthesizer.device,
    )
    with pytest.raises(PairingError, match="carries no baselines to compare with; train it again"):
        evaluate_pairs(pairs[1:2], no_baselines, tmp_path)
