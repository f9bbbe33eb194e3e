"""A batch in this process: which CTs, which labels are kept, which CTs are skipped, which failures are isolated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.server.tasks.progress import read_report
from lib.dicom.scan.scan import scan_folder
from lib.errors import CT2PETError, ModelNotTrainedError, OutputError, StudiesError
from lib.metrics.calibration import Calibration
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.conftest import SMALL
from tests.ct2pet_app.constant_model import save_constant_model

CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
REPORT = "0" * 32


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three CTs, of which only the first has its PET; read-only by agreement."""
    folder = tmp_path_factory.mktemp("three")
    write_phantoms(folder, patients=3, settings=SMALL)
    for patient in ("PHANTOM_0002", "PHANTOM_0003"):
        shutil.rmtree(folder / patient / "PET")
    return folder


@pytest.fixture(scope="module")
def cts(three: Path) -> tuple[str, ...]:
    return tuple(found.series.uid for found in scan_folder(three).usable("CT"))


@pytest.fixture
def app(make_app: Callable[..., CT2PETApp], three: Path, tmp_path: Path) -> CT2PETApp:
    """An app whose unet predicts 2 SUV and expects 0.5 SUV of error."""
    built = make_app(studies=three)
    built.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1, calibration=CURVE))
    return built


def batch(app: CT2PETApp, **params: Any) -> dict[str, Any]:
    return app.batch_infer({"model": "unet", "metrics": False, **params})


@pytest.mark.parametrize(
    ("images", "chosen"), [("all", (0, 1, 2)), ("unlabeled", (1, 2)), ("labeled", (0,))], ids=lambda value: str(value)
)
def test_a_batch_synthesizes_the_selected_cts(
    app: CT2PETApp, cts: tuple[str, ...], images: str, chosen: tuple[int, ...]
) -> None:
    synthesized = batch(app, images=images)
    assert set(synthesized) == {cts[place] for place in chosen}
    assert set(app.datastore().get_labeled_images("synthetic")) == set(synthesized)


def test_one_that_fails_does_not_stop_the_rest(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    results = batch(app, images=["/etc/passwd", *cts[:1]])
    assert "no image" in results["/etc/passwd"]["error"]
    assert results[cts[0]]["label"] == "synthetic"


def test_an_unexpected_error_does_not_stop_the_rest(
    app: CT2PETApp, cts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = app.infer

    def fails_once(request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        if request["image"] == cts[0]:
            raise RuntimeError("a patient's name, perhaps")
        return infer(request, datastore)

    monkeypatch.setattr(app, "infer", fails_once)
    results = batch(app)
    assert results[cts[0]]["error"] == "unexpected RuntimeError; see the server's log"
    assert [results[ct]["label"] for ct in cts[1:]] == ["synthetic"] * 2


def test_where_each_one_fails_the_batch_fails(app: CT2PETApp) -> None:
    with pytest.raises(StudiesError, match="all 2 cases failed; the first: no image 'a'"):
        batch(app, images=["a", "b"])


def test_a_batch_skips_cts_that_are_already_synthesized(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    assert set(batch(app, max_batch_size=2)) == set(sorted(cts)[:2])
    assert set(batch(app)) == {sorted(cts)[2]}
    assert batch(app) == {}


@pytest.mark.parametrize("change", [{"slices": "1:3"}, {"label_tag": "other"}, {"store": True}])
def test_changed_options_synthesize_again(
    app: CT2PETApp, cts: tuple[str, ...], change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.studies_datastore, "store_series", lambda series: None)
    batch(app, images=[cts[1]])
    assert set(batch(app, images=[cts[1]], **change)) == {cts[1]}


def test_other_weights_synthesize_again(app: CT2PETApp, cts: tuple[str, ...], tmp_path: Path) -> None:
    batch(app, images=[cts[1]])
    app.models.publish("unet", save_constant_model(tmp_path / "other.safetensors", 3.0, stages=1))
    assert set(batch(app, images=[cts[1]])) == {cts[1]}


def test_a_batch_leaves_what_error_to_expect_of_cts_without_a_pet(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    batch(app)
    for ct in cts[1:]:
        info = app.datastore().get_image_info(ct)
        assert info["uncertainty"]["unet"]["mean_suv"] == pytest.approx(0.5, rel=1e-2)
    assert "uncertainty" not in app.datastore().get_image_info(cts[0])
    assert app.next_sample({"strategy": "uncertain"})["expected_error_suv"] == pytest.approx(0.5, rel=1e-2)


def test_a_full_disk_is_reported_for_each_case(
    app: CT2PETApp, cts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr("ct2pet_app.inference.task.write_volume_file", full)
    with pytest.raises(CT2PETError, match="all 3 cases failed; the first: no space left"):
        batch(app)


def test_the_report_says_how_far_it_is_and_what_failed(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    batch(app, images=["gone", *cts[:2]], report=REPORT)
    report = read_report(app.models.folder, {"report": REPORT})
    assert report is not None
    assert (report["to_do"], report["done"], report["percent"], report["failed"]) == (3, 3, 100, 1)
    assert "no image 'gone'" in report["reasons"]["gone"]
    assert report["result"] == {"drawn": 2, "label_tag": "synthetic", "left": 0}


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 31, "0" * 33, "ZZ" * 16])
def test_a_report_is_no_path(app: CT2PETApp, name: str) -> None:
    assert read_report(app.models.folder, {"report": name}) is None


def test_no_results_are_left_over(app: CT2PETApp) -> None:
    batch(app)
    assert not list((app.models.folder / "results").iterdir())


def test_the_result_is_short_enough_for_a_log(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    assert len(json.dumps(batch(app, images=[cts[0]]))) < 300  # MONAI Label logs all of it


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"model": "unet9"}, NotFoundError, "no model 'unet9'"),
        ({"model": "cascade3"}, ModelNotTrainedError, "model cascade3 is not trained yet"),
        ({"images": "most"}, RequestError, "images 'most': expected all, unlabeled, labeled, or a list"),
        ({"images": [1]}, RequestError, "images"),
        ({"label_tag": "final"}, RequestError, "label_tag 'final': final is the tag of the real PETs"),
        ({"label_tag": "../x"}, RequestError, "label_tag"),
        ({"max_batch_size": "many"}, RequestError, "max_batch_size 'many': expected a number of images"),
        ({"max_batch_size": -1}, RequestError, "max_batch_size"),
        ({"slices": "x"}, RequestError, "slices 'x': expected A:B"),
        ({"metrcs": True}, RequestError, "'metrcs' is no parameter of a batch; did you mean metrics"),
    ],
)
def test_invalid_parameters_are_refused(app: CT2PETApp, params: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        batch(app, **params)


def test_what_the_stock_client_sends_is_taken(app: CT2PETApp, cts: tuple[str, ...]) -> None:
    stock = {"device": "cuda", "multi_gpu": True, "gpus": "all", "logging": "WARNING", "save_label": True}
    assert batch(app, **stock, label_tag="original", max_workers=1, max_batch_size=0, images=[cts[0]])
    assert app.datastore().get_labeled_images("original") == [cts[0]]
