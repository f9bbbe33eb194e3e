"""The evaluation of a model on pairs: its patients, its failures, and its files."""

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
from lib.metrics.appearance import AppearanceMetrics
from lib.metrics.criteria import LESION_METRICS
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
CLINICAL = (
    {"hu_share", "best_factor", "mae_suv_body_rescaled", "psnr_db_body_rescaled"}
    | {f"tumour_suv_{name}_error" for name in ("mean", "max", "peak")}
    | {f"hot_{name}" for name in ("sensitivity", "false_share", "overlap")}
)
SEEN_AT_ONCE = {field.name for field in dataclasses.fields(AppearanceMetrics)}
LESIONS = {metric.name for metric in LESION_METRICS}
CONTRACT = {"mae_suv", "psnr_db", "ssim", "ms_ssim", "vif", "mse"}  # DESIGN.md, each for the slice and `_body`
BASELINES = ["zero", "constant", "hu_mean", "hu_median"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairedSeries, ...]:
    """Patients 1 (training set), 2 and 4 (unseen), 7 (validation set)."""
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


def test_every_patient_is_measured_and_labelled_with_its_side(evaluation: Evaluation) -> None:
    assert {result.patient_id: result.seen for result in evaluation.patients} == {
        "PHANTOM_0001": "train",
        "PHANTOM_0002": "no",
        "PHANTOM_0004": "no",
        "PHANTOM_0007": "validation",
    }
    assert not evaluation.failed


def test_means_are_over_unseen_patients(evaluation: Evaluation) -> None:
    assert [result.patient_id for result in evaluation.judged] == ["PHANTOM_0002", "PHANTOM_0004"]
    for method in ("model", *BASELINES):
        per_patient = [result.comparison.metrics[method] for result in evaluation.judged]
        for name in ("mae_suv", "ssim_body", "psnr_db_body"):
            expected = sum(getattr(metrics, name) for metrics in per_patient) / 2
            assert getattr(evaluation.mean(method), name) == pytest.approx(expected)


def test_the_json_has_all_its_keys(evaluation: Evaluation, synthesizer: Synthesizer, out: Path) -> None:
    document = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert json.loads((out / "evaluation.json").read_text()) == document
    assert {"model", "patients", "mean", "baselines"} <= document.keys()
    assert document["model"] == {"name": "tiny", "sha256": synthesizer.checksum}
    assert list(document["baselines"]) == BASELINES
    assert CONTRACT | {f"{name}_body" for name in CONTRACT} <= document["mean"].keys()
    assert all(set(document["baselines"][name]) == METRICS for name in BASELINES)
    assert document["judged_patients"] == 2 and document["failed"] == []
    assert "monai" in document["versions"]["ssim"]
    for patient in document["patients"]:
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
    names = METRICS | IN_3D | CLINICAL | SEEN_AT_ONCE | LESIONS
    assert len(lines) == 4 * 5 and lines[0].keys() == {"patient_id", "seen", "method", *names}
    for line in lines:
        result = next(found for found in evaluation.patients if found.patient_id == line["patient_id"])
        metrics = result.comparison.metrics[line["method"]]
        assert line["seen"] == result.seen and float(line["mae_suv"]) == metrics.mae_suv


def test_lesions_and_appearance_are_in_every_file(evaluation: Evaluation, out: Path) -> None:
    document = json.loads((out / "evaluation.json").read_text())
    for patient in document["patients"]:
        assert list(patient["appearance"]) == list(patient["lesions"]) == ["model", *BASELINES]
        assert set(patient["appearance"]["model"]) == SEEN_AT_ONCE and set(patient["lesions"]["zero"]) == LESIONS
        fixed = patient["lesions"]["model"]["fixed"]
        assert len(fixed["missed"]) == patient["lesions"]["model"]["lesions_missed_fixed"]
        assert patient["lesions"]["zero"]["lesions_missed_fixed"] == len(fixed["missed"]) + len(fixed["found"])
    lesions = document["lesions"]
    assert (lesions["threshold_suv"], lesions["relative_threshold"], lesions["min_volume_ml"]) == (2.5, 0.41, 0.5)
    assert list(lesions["free_response"]) == ["model", "hu_mean", "hu_median"]
    keys = [caveat["key"] for caveat in document["verdict"]["caveats"]]
    assert keys == [caveat.key for caveat in evaluation.judgement.caveats]
    assert LESIONS.issubset(document["intervals"]["model"])
    listed = sum(len(patient["lesions"]["model"][definition][outcome]) for patient in document["patients"]
                 for definition in ("fixed", "relative") for outcome in ("found", "missed", "fabricated"))  # fmt: skip
    assert len((out / "lesions.csv").read_text().splitlines()) == 1 + listed > 1


def test_there_are_two_images_per_pair_named_without_the_patient_id(evaluation: Evaluation, out: Path) -> None:
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 2 * 4 and not [path for path in pictures if "PHANTOM" in path.name]
    assert any(path.name.startswith(patient_digest("PHANTOM_0002")) for path in pictures)
    for path in pictures:
        with Image.open(path) as image:
            assert image.convert("L").getextrema()[1] > 200


def test_the_error_of_the_zero_baseline_is_the_mean_uptake(evaluation: Evaluation) -> None:
    zero = evaluation.mean("zero")
    assert zero.mae_suv_body == pytest.approx(-zero.bias_suv_body)
    assert zero.mae_suv_body > evaluation.mean("constant").mae_suv_body


def test_a_failed_pair_is_reported_and_the_evaluation_continues(
    pairs: tuple[PairedSeries, ...], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    second = pairs[1]
    missing = dataclasses.replace(second.pair.pet, files=(tmp_path / "gone.dcm", *second.pair.pet.files[1:]))
    broken = dataclasses.replace(second, pair=dataclasses.replace(second.pair, pet=missing))
    steps: list[tuple[int, int, str]] = []
    evaluation = evaluate_pairs(
        (broken, pairs[2]), synthesizer, tmp_path / "out", progress=lambda *step: steps.append(step)
    )
    assert [result.patient_id for result in evaluation.judged] == ["PHANTOM_0004"]
    ((patient_id, ct_uid, reason),) = evaluation.failed
    assert (patient_id, ct_uid) == ("PHANTOM_0002", second.pair.ct.uid) and "gone.dcm" in reason
    assert evaluation.as_json()["failed"] == [
        {"patient_id": patient_id, "ct_series_instance_uid": ct_uid, "reason": reason}
    ]
    assert steps == [(0, 2, "evaluating PHANTOM_0002"), (1, 2, "evaluating PHANTOM_0004"), (2, 2, "evaluated")]


def test_patients_of_the_training_and_validation_sets_alone_are_rejected(
    pairs: tuple[PairedSeries, ...], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    with pytest.raises(
        PairingError,
        match=r"none of the 2 pairs is usable and of a patient that .* give studies of other patients",
    ):
        evaluate_pairs((pairs[0], pairs[3]), synthesizer, tmp_path)
    assert not list(tmp_path.iterdir())  # before any work


def test_an_evaluation_without_pairs_is_rejected(synthesizer: Synthesizer, tmp_path: Path) -> None:
    with pytest.raises(PairingError, match="none of the 0 pairs"):
        evaluate_pairs((), synthesizer, tmp_path)


def test_a_model_without_baselines_is_rejected(
    pairs: tuple[PairedSeries, ...], synthesizer: Synthesizer, tmp_path: Path
) -> None:
    no_baselines = Synthesizer(
        synthesizer._network,
        dataclasses.replace(synthesizer.card, baselines=None),
        checksum="0",
        device=synthesizer.device,
    )
    with pytest.raises(PairingError, match="has no baselines to compare with; train the model again"):
        evaluate_pairs(pairs[1:2], no_baselines, tmp_path)
