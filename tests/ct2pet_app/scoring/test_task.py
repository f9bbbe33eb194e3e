"""Scoring in this process: what is kept with which pair, what is not done twice, what fails alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.scoring.task import MEASURED
from lib.dicom.scan.scan import scan_folder
from lib.errors import CheckpointError, ModelNotTrainedError, StudiesError
from lib.evaluation.slice_metrics import compare
from lib.metrics.calibration import Calibration
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.conftest import SMALL
from tests.ct2pet_app.constant_model import save_constant_model

CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
MakeApp = Callable[..., CT2PETApp]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs, and a third CT without its PET; read-only by agreement."""
    folder = tmp_path_factory.mktemp("three")
    write_phantoms(folder, patients=3, settings=SMALL)
    shutil.rmtree(folder / "PHANTOM_0003" / "PET")
    return folder


@pytest.fixture(scope="module")
def cts(three: Path) -> tuple[str, ...]:
    return tuple(found.series.uid for found in scan_folder(three).usable("CT"))


def publish_unet(app: CT2PETApp, folder: Path) -> None:
    """Serve a unet that predicts 2 SUV, expects 0.5 SUV of error, and was trained on the first patient."""
    path = folder / "made" / "unet.safetensors"
    model = save_constant_model(path, 2.0, stages=1, trained_on=["PHANTOM_0001"], calibration=CURVE)
    app.models.publish("unet", model)


@pytest.fixture
def app(make_app: MakeApp, three: Path, tmp_path: Path) -> CT2PETApp:
    """An app on the three CTs with that unet, not scored yet."""
    built = make_app(studies=three)
    publish_unet(built, tmp_path)
    return built


def score(app: CT2PETApp, method: str = "metrics", **params: Any) -> dict[str, Any]:
    return app.scoring({"method": method, **params})


def scores_of(app: CT2PETApp, ct: str) -> dict[str, Any]:
    return dict(app.datastore().get_label_info(ct, "final")["scores"])


@pytest.fixture(scope="module")
def scored(three: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CT2PETApp, dict[str, Any]]:
    """The same app after a scoring, and its result; only read."""
    folder = tmp_path_factory.mktemp("scored")
    built = CT2PETApp(str(folder), str(three), {"models_folder": str(folder), "device": "cpu", "models": "unet"})
    publish_unet(built, folder)
    return built, score(built)


def test_the_scores_of_a_pair_include_the_baselines(
    scored: tuple[CT2PETApp, dict[str, Any]], cts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _ = scored
    scores = scores_of(app, cts[0])["unet"]
    monkeypatch.setattr("ct2pet_app.inference.result_metadata.compare", partial(compare, groups=MEASURED))
    inferred = app.infer({"model": "unet", "image": cts[0]})["params"]["metrics"]
    assert set(scores["figures"]) == {"model", "zero", "constant", "hu_mean", "hu_median"}
    assert scores["figures"]["model"]["mae_suv_body"] > 0
    for method in ("model", "zero", "hu_median"):
        for figure, value in scores["figures"][method].items():
            assert value == (inferred[method][figure] and pytest.approx(inferred[method][figure])), (method, figure)


def test_a_score_names_the_weights_and_whether_they_know_the_patient(
    scored: tuple[CT2PETApp, dict[str, Any]], cts: tuple[str, ...]
) -> None:
    app, _ = scored
    known, unknown = (scores_of(app, ct)["unet"] for ct in cts[:2])
    assert (known["seen"], unknown["seen"]) == ("training", "never")
    published = app.models.published("unet")
    assert published is not None
    assert (known["model"], known["checksum"], known["version"]) == ("unet", published.checksum, published.version)


def test_the_summary_has_separate_means_of_unseen_patients(
    scored: tuple[CT2PETApp, dict[str, Any]], cts: tuple[str, ...]
) -> None:
    app, result = scored
    summary = result["models"]["unet"]
    one, other = (scores_of(app, ct)["unet"]["figures"]["model"]["mae_suv_body"] for ct in cts[:2])
    assert (summary["pairs"], summary["scored"], summary["never_seen"]) == (2, 2, 1)
    assert summary["mean"]["model"]["mae_suv_body"] == pytest.approx((one + other) / 2)
    assert summary["mean_never_seen"]["model"]["mae_suv_body"] == pytest.approx(other)
    json.dumps(summary, allow_nan=False)


def test_what_was_scored_is_not_scored_again(
    scored: tuple[CT2PETApp, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    app, result = scored
    caplog.set_level("INFO")
    assert score(app) == result
    assert "0 to do, 2 done before" in caplog.text


def test_other_weights_are_scored_again(app: CT2PETApp, cts: tuple[str, ...], tmp_path: Path) -> None:
    score(app)
    before = scores_of(app, cts[0])["unet"]["figures"]["model"]["mae_suv_body"]
    app.models.publish("unet", save_constant_model(tmp_path / "other.safetensors", 3.0, stages=1))
    assert score(app)["models"]["unet"]["scored"] == 2
    assert scores_of(app, cts[0])["unet"]["figures"]["model"]["mae_suv_body"] != before


def test_changed_files_are_scored_again(
    make_app: MakeApp, phantoms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    studies = tmp_path / "studies"
    shutil.copytree(phantoms, studies)
    app = make_app(studies=studies)
    app.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1))
    score(app)
    next((studies / "PHANTOM_0002" / "PET").iterdir()).touch()
    caplog.clear()
    score(app)
    assert "1 to do, 1 done before" in caplog.text


def test_a_failed_pair_is_reported_and_the_rest_goes_on(make_app: MakeApp, phantoms: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(phantoms, studies)
    app = make_app(studies=studies)
    app.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1))
    first, second = app.studies_datastore.listing().pairs
    sorted((studies / "PHANTOM_0001" / "PET").iterdir())[2].unlink()  # after it was listed
    result = score(app)
    assert [case.split()[-1] for case in result["failed"]] == [first]
    assert result["models"]["unet"]["scored"] == 1
    assert "scores" in app.datastore().get_label_info(second, "final")


def test_where_each_pair_fails_the_scoring_fails(app: CT2PETApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct2pet_app.scoring.task.compare_with_real", lambda *_, **__: 1 / 0)
    with pytest.raises(StudiesError, match="all 2 cases failed; the first: unexpected ZeroDivisionError"):
        score(app)


def test_without_pairs_there_is_nothing_to_score(make_app: MakeApp, three: Path, tmp_path: Path) -> None:
    app = make_app(studies=three / "PHANTOM_0003")
    app.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1))
    with pytest.raises(StudiesError, match="nothing to score: no CT has a PET"):
        score(app)


@pytest.mark.parametrize(
    ("method", "params", "error", "message"),
    [
        ("metric", {}, NotFoundError, "no scoring 'metric'; did you mean metrics"),
        ("metrics", {"modle": "unet"}, RequestError, "'modle' is no parameter of a scoring; did you mean model"),
        ("metrics", {"model": "unet9"}, NotFoundError, "no model 'unet9'"),
        ("metrics", {"model": "cascade3"}, ModelNotTrainedError, "model cascade3 is not trained yet"),
    ],
)
def test_invalid_parameters_are_refused(app: CT2PETApp, method: str, params: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        score(app, method, **params)


def test_an_untrained_server_scores_nothing(make_app: MakeApp) -> None:
    with pytest.raises(ModelNotTrainedError, match="no model of this server is trained yet"):
        score(make_app())


def test_expected_errors_are_stored_with_the_cts_that_have_no_pet(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    result = score(app, "uncertainty")
    assert result["models"]["unet"]["cts_without_pet"] == 1
    info = app.datastore().get_image_info(cts[2])
    assert info["uncertainty"]["unet"]["mean_suv"] == pytest.approx(0.5, rel=1e-2)
    assert "uncertainty" not in app.datastore().get_image_info(cts[0])


def test_a_model_without_validation_patients_expects_nothing(app: CT2PETApp, tmp_path: Path) -> None:
    app.models.publish("cascade3", save_constant_model(tmp_path / "cascade3.safetensors", 2.0))
    assert set(score(app, "uncertainty")["models"]) == {"unet"}
    with pytest.raises(CheckpointError, match="carries no calibration"):
        score(app, "uncertainty", model="cascade3")


def test_notes_of_clients_spoil_no_score(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    app.datastore().update_label_info(cts[0], "final", {"scores": {"unet": {"figures": 1}}, "suv": "none"})
    app.datastore().update_label_info(cts[1], "final", {"scores": ["junk"]})
    assert score(app)["models"]["unet"]["scored"] == 2
    assert app.datastore().get_label_info(cts[0], "final")["suv"] == "BQML -> SUVbw"
