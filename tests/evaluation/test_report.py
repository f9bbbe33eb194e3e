"""The HTML report: its sentences, tables and images, and that it is self-contained."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib.dicom.read.volume import read_pet
from lib.dicom.rtstruct import structure_set_files
from lib.dicom.scan.scan import ScanReport, scan_folder
from lib.errors import PairingError
from lib.evaluation.evaluate import Evaluation, evaluate_pairs
from lib.evaluation.external_predictions import parse_external_predictions
from lib.evaluation.report.html import write_report
from lib.imaging.body import body_mask
from lib.imaging.files.volume_file import write_volume_file
from lib.imaging.volume import Unit, Volume
from lib.learning.tracking.progress import EpochRecord, read_histories, read_history
from lib.metrics.baselines import BaselineSample, fit_baselines
from lib.metrics.verdict import name_baselines
from lib.pairing.pairs import pair_series
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.dicom.rtstruct_files import contour_item, write_rtstruct
from tests.learning.conftest import make_card, tiny_recipe

COARSE = PhantomSettings(slices=12, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
NOTE = "Phantoms & friends, CC BY 3.0"


class Lookup:
    """A model that is a lookup table: the median SUV at each HU, fitted on phantom 1."""

    device = torch.device("cpu")
    checksum = "0123456789abcdef"

    def __init__(self) -> None:
        patient = phantom_patient(1, 0, COARSE)
        level = np.full(patient.ct.array.shape, 1.2, np.float32)
        suv = level + (patient.ct.array > 0) * np.float32(0.7)
        self.baselines = fit_baselines([BaselineSample(patient.ct.array, suv, body_mask(patient.ct))])
        recipe = tiny_recipe("pixel_mm=6.4")
        self.card = make_card(recipe=recipe, network=recipe.network, baselines=self.baselines.to_json())

    def for_patient(self, patient_id: str) -> Lookup:
        return self

    def apply(self, ct: Volume) -> Volume:
        return Volume(self.baselines.predict("hu_median", ct.array, body_mask(ct)), ct.geometry, Unit.SUV_BW)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> ScanReport:
    """Phantoms 2 and 4; slice 5 of the first has a contoured tumour, a square of 64 mm."""
    root = tmp_path_factory.mktemp("phantoms")
    for number in (2, 4):
        patient = phantom_patient(number, 0, COARSE)
        folder = write_study(patient, root / patient.patient_id)
        if number == 2:
            (ct,) = scan_folder(folder).usable("CT")
            x, y, z = patient.ct.geometry.to_world(np.array([[26.5, 26.5, 5.0]]))[0]
            square = [(x, y, z), (x + 64, y, z), (x + 64, y + 64, z), (x, y + 64, z)]
            write_rtstruct(
                folder / "RT" / "1.dcm", {"GTV": [contour_item(square)]}, frame=ct.series.frame_of_reference_uid,
                PatientID=ct.series.patient_id, StudyInstanceUID=ct.series.study_uid,
            )  # fmt: skip
    return scan_folder(root)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    records = [EpochRecord(n, 0.1 / n, 0.001, 1.0, {"mae_suv_body": 0.5 / n}) for n in (1, 2, 3)]
    (folder / "history.jsonl").write_text("".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in records))
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def evaluation(scan: ScanReport, run: Path, out: Path) -> Evaluation:
    model: Any = Lookup()
    return evaluate_pairs(pair_series(scan).pairs, model, out, scan=scan, run=run, note=NOTE)


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, out: Path) -> str:
    return (out / "report.html").read_text(encoding="utf-8")


def test_a_model_that_is_a_lookup_table_is_reported_as_one(evaluation: Evaluation, page: str) -> None:
    judgement = evaluation.judgement
    assert judgement.is_lookup
    assert "hu_median" in judgement.not_beaten("mae_suv_body")
    for metric in ("mae_suv_body", "mse_body", "ssim_body", "psnr_db"):
        assert judgement.against["hu_median"][metric].outcome == "not beaten"
        assert judgement.against["hu_median"][metric].difference.mean == pytest.approx(0, abs=1e-6)
    assert 'class="verdict bad"' in page
    assert (
        re.search(r"Not better than ([^.;]*median SUV per HU|any baseline)", page)
        and "The model acts as a lookup table" in page
    )
    assert "✗ not better than median SUV per HU" in page
    assert '<p class="bad-text">Model card: Not compared with the baselines: no voxel inside' in page


def test_a_contoured_tumour_is_measured(evaluation: Evaluation, page: str) -> None:
    first, second = (pair.clinical for pair in evaluation.patients)
    assert first.tumour is not None and second.tumour is None and first.tumour_note == "GTV"
    slice_mm = 3.27
    assert first.tumour["real"].volume_ml == pytest.approx(100 * 6.4 * 6.4 * slice_mm / 1000, rel=0.01)
    assert "in 1 patient;" in page


def test_each_contour_is_listed_and_further_files_are_read(scan: ScanReport, tmp_path: Path) -> None:
    ct = pair_series(scan).pairs[0].pair.ct
    x, y, z = phantom_patient(2, 0, COARSE).ct.geometry.to_world(np.array([[26.5, 26.5, 7.0]]))[0]
    square = [(x, y, z), (x + 64, y, z), (x + 64, y + 64, z), (x, y + 64, z)]
    path = tmp_path / "elsewhere.dcm"
    write_rtstruct(
        path, {"Tumour 2": [contour_item(square)], "Heart": [contour_item(square)]}, frame=ct.frame_of_reference_uid
    )
    model: Any = Lookup()
    pairs = pair_series(scan).pairs
    known = structure_set_files(scan, ct)  # also given explicitly
    evaluation = evaluate_pairs(pairs, model, tmp_path / "out", scan=scan, contours=[path, *known])
    first, second = evaluation.as_json()["patients"]
    assert [region["name"] for region in first["tumour_regions"]] == ["GTV", "Tumour 2"]
    volumes_ml = [region["real"]["volume_ml"] for region in first["tumour_regions"]]
    assert sum(volumes_ml) == pytest.approx(first["tumour"]["real"]["volume_ml"])
    assert second["tumour_regions"] == [] and second["tumour"] is None


def test_contours_in_no_cts_frame_of_reference_are_rejected_before_any_work(scan: ScanReport, tmp_path: Path) -> None:
    square = [(0.0, 0.0, 0.0), (64.0, 0.0, 0.0), (64.0, 64.0, 0.0), (0.0, 64.0, 0.0)]
    path = tmp_path / "elsewhere.dcm"
    write_rtstruct(path, {"GTV": [contour_item(square)]}, frame="1.2.3")
    model: Any = Lookup()
    with pytest.raises(PairingError, match=r"elsewhere\.dcm: none of its 1 tumours .* is in the frame of reference"):
        evaluate_pairs(pair_series(scan).pairs, model, tmp_path / "out", contours=[path])
    assert not (tmp_path / "out").exists()


def test_an_external_program_is_compared_patient_by_patient(scan: ScanReport, tmp_path: Path) -> None:
    pairs = pair_series(scan).pairs
    (tmp_path / "peer").mkdir()
    # the real PET for the first patient, none for the second
    write_volume_file(read_pet(pairs[0].pair.pet), tmp_path / "peer" / f"{pairs[0].pair.ct.uid}.nrrd")
    model: Any = Lookup()
    external = parse_external_predictions([f"Oracle={tmp_path / 'peer'}"])
    evaluation = evaluate_pairs(pairs, model, tmp_path / "out", external=external)
    first, second = evaluation.patients
    assert first.metrics("Oracle")["mae_suv_body"] == pytest.approx(0, abs=1e-2)
    assert first.external == ("Oracle",) and second.external == ()
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert result["beside"]["Oracle"]["patients"] == 1
    assert result["patients"][1]["absent_peers"]["Oracle"].startswith("Oracle has no volume of CT")
    assert [line.split(",")[2] for line in (tmp_path / "out" / "patients.csv").read_text().splitlines()].count(
        "Oracle"
    ) == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (
        "Comparison with external programs" in page
        and "model - Oracle" in page
        and "Oracle has no volume of CT" in page
    )


def test_without_a_scan_no_tumour_is_measured(scan: ScanReport, tmp_path: Path) -> None:
    model: Any = Lookup()
    evaluation = evaluate_pairs(pair_series(scan).pairs[:1], model, tmp_path)
    assert evaluation.patients[0].clinical.tumour is None
    assert "No evaluated patient has a contoured tumour" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_damaged_contour_is_reported_and_the_patient_is_evaluated(scan: ScanReport, tmp_path: Path) -> None:
    (rtstruct,) = (found for found in scan.series if found.series.modality == "RTSTRUCT")
    broken = tmp_path / "RS.dcm"
    broken.write_bytes(b"nothing")
    series = dataclasses.replace(rtstruct.series, files=(broken,))
    others = tuple(found for found in scan.series if found is not rtstruct)
    damaged = dataclasses.replace(scan, series=(*others, dataclasses.replace(rtstruct, series=series)))
    model: Any = Lookup()
    evaluation = evaluate_pairs(pair_series(scan).pairs[:1], model, tmp_path / "out", scan=damaged)
    assert not evaluation.failed
    assert "RS.dcm: damaged" in evaluation.patients[0].clinical.tumour_note
    assert "RS.dcm: damaged" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_further_metrics_are_summarised_next_to_the_verdict(evaluation: Evaluation, page: str) -> None:
    judgement = evaluation.judgement
    for name, label in (
        ("psnr_db_body", "body PSNR"),
        ("ssim_body", "body SSIM"),
        ("tumour_suv_mean_error", "tumour SUVmean"),
    ):
        lost = judgement.outcomes(name, "not beaten")
        names = name_baselines(judgement, lost, "any baseline") if lost else ""
        assert (f"{label}: not better than {names}" if lost else f"{label}: ") in page


def test_lesions_and_what_a_reader_sees_have_their_sections(evaluation: Evaluation, page: str) -> None:
    assert "<h2>What a reader sees at once</h2>" in page and "<h2>Lesions</h2>" in page
    assert all(sentence in page for sentence in evaluation.lesions.sentences.values())
    # a lookup table of 1.2 or 1.9 SUV shows nothing above 2.5
    assert "the synthetic PET shows 0.0 (0 %)" in page
    keys = [caveat.key for caveat in evaluation.judgement.caveats]
    assert "missed_lesions" in keys and "it misses more lesions than it finds" in page


def test_the_report_is_self_contained(page: str) -> None:
    assert not re.findall(r"<script|<link|@import|url\(|https?://|<iframe", page)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "default-src 'none'" in page


def test_every_embedded_image_can_be_opened(page: str) -> None:
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    # methods, Bland-Altman, joint, level, training, free response; slices and projections of two patients
    assert len(encoded) == 6 + 2 * 2
    for png in encoded:
        with Image.open(BytesIO(base64.b64decode(png))) as image:
            assert image.format == "PNG" and np.asarray(image.convert("L")).std() > 5


def test_the_report_states_label_attribution_limits_and_versions(page: str, evaluation: Evaluation) -> None:
    assert page.count("NOT FOR DIAGNOSIS") >= 3
    assert "Phantoms &amp; friends, CC BY 3.0" in page
    assert evaluation.checksum in page and "PHANTOM_0002" in page and "PHANTOM_0004" in page
    assert "lesions may appear that do not exist" in page  # the card's limits
    assert "monai" in page  # implementation of the metrics
    assert "Fewer than ten patients" in page


def test_without_a_history_there_is_no_training_curve(evaluation: Evaluation, out: Path, tmp_path: Path) -> None:
    for picture in out.glob("*.png"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    plain = write_report(evaluation, make_card(), tmp_path, run=tmp_path).read_text(encoding="utf-8")
    assert "Training loss and validation error" not in plain


def test_each_network_of_a_cross_validated_run_has_a_training_curve_of_its_own(
    run: Path, evaluation: Evaluation, out: Path, tmp_path: Path
) -> None:
    for picture in out.glob("*.png"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    for network in ("0", "1"):
        (tmp_path / "folds" / network).mkdir(parents=True)
        (tmp_path / "folds" / network / "history.jsonl").write_bytes((run / "history.jsonl").read_bytes())
    assert [record.epoch for record in read_history(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [[record.epoch for record in history] for history in read_histories(tmp_path)] == [[1, 2, 3], [1, 2, 3]]
    network = dataclasses.replace(tiny_recipe().network, members=2)
    card = make_card(network=network, recipe=dataclasses.replace(tiny_recipe(), network=network))
    page = write_report(evaluation, card, tmp_path, run=tmp_path).read_text(encoding="utf-8")
    assert "Training loss of each of the 2 networks over the epochs." in page


def test_texts_from_files_are_escaped(evaluation: Evaluation, out: Path, tmp_path: Path) -> None:
    for picture in out.glob("*.png"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    malicious = "<script>alert(1)</script>"
    patients = tuple(dataclasses.replace(pair, patient_id=malicious) for pair in evaluation.patients)
    named = dataclasses.replace(evaluation, patients=patients, failed=((malicious, "1.2", malicious),))
    page = write_report(named, make_card(name=malicious), tmp_path, note=malicious).read_text(encoding="utf-8")
    assert "<script" not in page and page.count("&lt;script&gt;") >= 5


def test_json_and_tables_hold_the_same_verdict(evaluation: Evaluation, out: Path) -> None:
    result = json.loads((out / "evaluation.json").read_text())
    assert result["is_lookup"] and "hu_median" in result["not_beaten"]["mae_suv_body"]
    assert result["patients"][0]["tumour"]["real"]["volume_ml"] == pytest.approx(13.39, abs=0.1)
    means = (out / "means.csv").read_text().splitlines()
    assert means[0] == "measure,method,mean,low,high,patients,model_minus_method,outcome"
    assert any(line.startswith("mae_suv_body,hu_median,") and line.endswith(",not beaten") for line in means)
