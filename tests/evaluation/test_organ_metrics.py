"""Organs from end to end on phantoms: label maps, prepared arrays, the fifth baseline, evaluation and report."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.dicom.scan.scan import scan_folder
from lib.evaluation.evaluate import Evaluation, evaluate_pairs
from lib.evaluation.organ_metrics import OrganUptake, PairOrgans, organ_biases
from lib.imaging.files.label_file import write_label_file
from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelMap
from lib.learning.checkpoint import save_checkpoint
from lib.learning.model_card.card import TrainingData, patient_digest
from lib.learning.organs import fit_prepared_organs
from lib.metrics.baselines import ORGAN_MEDIAN
from lib.networks.cascade import Cascade
from lib.pairing.label_maps import find_label_maps
from lib.pairing.pairs import PairedSeries, pair_series
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import PreparedSet
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from lib.phantom.organs import NIFTI_FILE, SEG_FILE, phantom_organs, write_organs
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card, tiny_recipe

COARSE = PhantomSettings(slices=10, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
RECIPE = tiny_recipe("pixel_mm=6.4")
TRAINED, JUDGED, ELSEWHERE = 1, (2, 4), 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of four patients with label maps: a SEG, a NIfTI file, one file per organ, and one that is elsewhere."""
    root = tmp_path_factory.mktemp("organs")
    for number in (TRAINED, *JUDGED, ELSEWHERE):
        patient = phantom_patient(number, 0, COARSE)
        folder = write_study(patient, root / "studies" / patient.patient_id)
        if number == TRAINED:
            write_organs(patient, folder)
            (root / "labels" / "seg").mkdir(parents=True)
            shutil.move(folder / SEG_FILE, root / "labels" / "seg" / "any name")
            shutil.rmtree(folder / NIFTI_FILE.parent)
        elif number == JUDGED[0]:
            write_label_file(phantom_organs(patient), root / "labels" / f"{patient.patient_id}_ml.nii.gz")
        elif number == JUDGED[1]:
            _write_one_file_per_organ(phantom_organs(patient), root / "labels" / patient.patient_id / "segmentations")
        else:
            write_label_file(_moved(phantom_organs(patient)), root / "labels" / f"{patient.patient_id}.nii")
    return root


def _moved(label_map: LabelMap) -> LabelMap:
    affine = label_map.geometry.affine.copy()
    affine[2, 3] += 5000
    return LabelMap(label_map.organs, Geometry(label_map.geometry.shape, affine))


def _write_one_file_per_organ(label_map: LabelMap, folder: Path) -> None:
    import nibabel

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ label_map.geometry.affine
    folder.mkdir(parents=True)
    for name in ("lung", "blood"):
        mask = label_map.organs.mask(name).transpose(2, 1, 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(mask, affine), folder / f"{name}.nii.gz")


@pytest.fixture(scope="module")
def pairs(root: Path) -> tuple[PairedSeries, ...]:
    return pair_series(scan_folder(root / "studies")).pairs


@pytest.fixture(scope="module")
def prepared(root: Path, pairs: tuple[PairedSeries, ...]) -> PreparedSet:
    labels = find_label_maps(root / "labels", [paired.pair.ct for paired in pairs])
    report = prepare_pairs(pairs, root / "arrays", preparation=RECIPE.preparation, labels=labels)
    ((patient_id, reason),) = [(failed.patient_id, failed.reason) for failed in report.without_organs]
    assert patient_id == "PHANTOM_0005" and "does not overlap the CT" in reason
    return report.prepared


@pytest.fixture(scope="module")
def evaluation(root: Path, pairs: tuple[PairedSeries, ...], prepared: PreparedSet) -> Evaluation:
    torch.manual_seed(0)
    entries = [(pair, tuple(range(10))) for pair in prepared.pairs if pair.patient_id == "PHANTOM_0001"]
    fitted = fit_prepared_organs(prepared, entries)
    assert fitted is not None and fitted.volumes_by_organ["lung"] == 1
    assert fitted.suv_by_organ["blood"] > 1.1 > 0.9 > fitted.suv_by_organ["lung"]  # true: about 1.6 and 0.5
    training = TrainingData((patient_digest("PHANTOM_0001"),), (), 1, 10, "0123")
    card = make_card(recipe=RECIPE, network=RECIPE.network, training=training, organ_baseline=fitted.to_json())
    model = save_checkpoint(root / "model.safetensors", Cascade(RECIPE.network), card)
    synthesizer = Synthesizer.load(model, device="cpu")
    assert synthesizer.card.organ_baseline == fitted.to_json()
    judged = [paired for paired in pairs if paired.pair.ct.patient_id != "PHANTOM_0001"]
    return evaluate_pairs(judged, synthesizer, root / "report", labels=root / "labels")


def test_prepared_organs_are_the_true_ones(prepared: PreparedSet) -> None:
    organs = {pair.patient_id: prepared.arrays(pair).organs() for pair in prepared.pairs}
    assert organs["PHANTOM_0005"] is None
    truth = phantom_organs(phantom_patient(1, 0, COARSE)).organs  # the recipe's pixels are the CT's
    found = organs["PHANTOM_0001"]
    assert found is not None and found.names == truth.names
    np.testing.assert_array_equal(found.labels, truth.labels)
    of_two_files = organs["PHANTOM_0004"]
    assert of_two_files is not None and of_two_files.names == ("blood", "lung")


def test_organs_are_added_to_existing_arrays_and_kept(
    root: Path, pairs: tuple[PairedSeries, ...], prepared: PreparedSet
) -> None:
    again = prepare_pairs(pairs, root / "arrays", preparation=RECIPE.preparation)  # without label maps
    assert again.reused == 4 and again.prepared.pairs == prepared.pairs and not again.without_organs
    entry = next(pair for pair in prepared.pairs if pair.patient_id == "PHANTOM_0001")
    (root / "arrays" / "pairs" / entry.id / "organs.npy").unlink()  # as if the process was killed
    labels = find_label_maps(root / "labels", [paired.pair.ct for paired in pairs])
    repaired = prepare_pairs(pairs, root / "arrays", preparation=RECIPE.preparation, labels=labels)
    assert repaired.reused == 3 and repaired.prepared.pairs == prepared.pairs


def test_arrays_of_earlier_versions_open(root: Path, prepared: PreparedSet, tmp_path: Path) -> None:
    shutil.copytree(root / "arrays", tmp_path / "old")
    index = json.loads((tmp_path / "old" / "index.json").read_text())
    for entry in index["pairs"]:
        del entry["organs"], entry["organs_source"]
    (tmp_path / "old" / "index.json").write_text(json.dumps(index))
    old = PreparedSet.open(tmp_path / "old")
    assert all(old.arrays(pair).organs() is None for pair in old.pairs)


def test_organ_median_is_a_baseline_of_patients_with_a_label_map(evaluation: Evaluation) -> None:
    found = {pair.patient_id: pair for pair in evaluation.patients}
    assert ORGAN_MEDIAN not in found["PHANTOM_0005"].methods
    assert "does not overlap the CT" in found["PHANTOM_0005"].organs.missing
    for patient in ("PHANTOM_0002", "PHANTOM_0004"):
        assert list(found[patient].as_json()["baselines"])[-1] == ORGAN_MEDIAN and not found[patient].external
        # on phantoms the organ decides: better than HU alone
        metrics = {name: found[patient].metrics(name)["mae_suv_body"] for name in (ORGAN_MEDIAN, "constant")}
        assert metrics[ORGAN_MEDIAN] < metrics["constant"]


def test_the_verdict_has_four_baselines_where_a_patient_has_no_label_map(evaluation: Evaluation) -> None:
    document = evaluation.as_json()
    assert list(document["baselines"]) == ["zero", "constant", "hu_mean", "hu_median"]
    assert document["organ_median"]["patients"] == 2
    labelled = tuple(pair for pair in evaluation.patients if not pair.organs.missing)
    of_five = replace(evaluation, patients=labelled).as_json()
    assert list(of_five["baselines"])[-1] == list(of_five["against"])[-1] == ORGAN_MEDIAN
    assert ORGAN_MEDIAN in of_five["intervals"] and ORGAN_MEDIAN not in document["intervals"]


def test_the_bias_is_written_to_json_csv_and_report(evaluation: Evaluation, root: Path) -> None:
    lung = json.loads((root / "report" / "evaluation.json").read_text())["organs"]["lung"]
    assert lung["patients"] == 2 and set(lung["methods"]) == {
        "model", "zero", "constant", "hu_mean", "hu_median", ORGAN_MEDIAN
    }  # fmt: skip
    assert lung["methods"]["zero"]["bias"]["mean"] == pytest.approx(-lung["real_suv"]["mean"])
    with (root / "report" / "organs.csv").open(newline="") as file:
        lines = {(line["organ"], line["method"]): line for line in csv.DictReader(file)}
    assert float(lines["lung", "model"]["bias_suv"]) == lung["methods"]["model"]["bias"]["mean"]
    assert lines["lung", "model"]["patients"] == "2" and lines["muscle", "model"]["patients"] == "1"
    page = (root / "report" / "report.html").read_text()
    assert "<h2>Organs</h2>" in page and "2 patients, " in page and "median SUV per organ" in page
    assert "PHANTOM_0005: the label map does not overlap the CT" in page


def test_a_patient_with_two_pairs_counts_once() -> None:
    def organs(model: float, real: float) -> PairOrgans:
        return PairOrgans({"liver": OrganUptake(50, 10.0, {"real": real, "model": model})})

    found = organ_biases([("A", organs(3, 2)), ("A", organs(3, 1)), ("B", organs(1, 2))], ("model", ORGAN_MEDIAN))
    liver = found["liver"]
    assert (liver.patients, liver.real_suv.mean, liver.suv["model"].mean) == (2, 1.75, 2.0)
    assert liver.bias["model"].mean == pytest.approx(0.25) and ORGAN_MEDIAN not in liver.bias  # (1.5 - 1) / 2
    assert liver.bias["model"].low == pytest.approx(-1) and liver.bias["model"].high == pytest.approx(1.5)
