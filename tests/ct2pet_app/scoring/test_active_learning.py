"""Which CT is picked next, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from ct2pet_app.app import CT2PETApp
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.scoring.score_store import ExpectedError, keep_expected_error
from lib.metrics.calibration import Calibration
from tests.ct2pet_app.constant_model import save_constant_model
from tests.dicom.builders import write_series

CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)
# patient: study date and time, series time
BEGUN = {"1": ("20260310", "1200", "1210"), "2": ("20260312", "0900", "0930"), "3": ("20260312", "0900", "0920")}


@pytest.fixture
def app(make_app: Callable[..., CT2PETApp], tmp_path: Path) -> CT2PETApp:
    """An app on three CTs without a PET; its cascade3 is calibrated, its unet is not."""
    for patient, (date, time, series_time) in BEGUN.items():
        write_series(
            tmp_path / "studies" / patient,
            PatientID=patient, StudyInstanceUID=f"1.2.{patient}", SeriesInstanceUID=f"1.2.{patient}.1",
            StudyDate=date, StudyTime=time, SeriesDate=date, SeriesTime=series_time,
        )  # fmt: skip
    built = make_app(studies=tmp_path / "studies")
    built.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1))
    built.models.publish("cascade3", save_constant_model(tmp_path / "cascade3.safetensors", 2.0, calibration=CURVE))
    return built


def pick(app: CT2PETApp, strategy: str, **params: Any) -> dict[str, Any]:
    return app.next_sample({"strategy": strategy, **params})


def expect(app: CT2PETApp, image: str, mean_suv: float, *, checksum: str = "") -> None:
    published = app.models.published("cascade3")
    assert published is not None
    known = ExpectedError("cascade3", checksum or published.checksum, mean_suv, "")
    keep_expected_error(app.studies_datastore, image, known)


@pytest.mark.parametrize("strategy", ["first", "random", "newest", "uncertain"])
def test_each_response_has_an_id_and_a_reason(app: CT2PETApp, strategy: str) -> None:
    picked = pick(app, strategy)
    assert picked["id"] in app.datastore().list_images() and picked["why"]
    assert Path(picked["path"]).is_file()  # as MONAI Label's own answer


def test_the_newest_is_of_the_last_study_and_series(app: CT2PETApp) -> None:
    picked = pick(app, "newest")
    assert (picked["id"], picked["why"]) == ("1.2.2.1", "the newest of 3 CTs without a PET: begun 2026-03-12 09:00")


def test_a_ct_with_its_label_is_not_picked(app: CT2PETApp, tmp_path: Path) -> None:
    (tmp_path / "pet.nrrd").touch()
    app.datastore().save_label("1.2.2.1", str(tmp_path / "pet.nrrd"), "synthetic", {})
    assert pick(app, "newest", label_tag="synthetic")["id"] == "1.2.3.1"
    assert pick(app, "newest")["id"] == "1.2.2.1"  # a synthetic PET is no PET


def test_cts_without_a_date_come_last_the_last_upload_first(make_app: Callable[..., CT2PETApp], tmp_path: Path) -> None:
    write_series(tmp_path / "studies", StudyDate="", SeriesDate="", AcquisitionDate="")
    app = make_app(studies=tmp_path / "studies")
    ct = sitk.GetImageFromArray(np.linspace(-1000, 200, 512).reshape(8, 8, 8).astype(np.float32))
    sitk.WriteImage(ct, str(tmp_path / "ct.nrrd"))
    for day, name in enumerate(("b", "a")):
        app.datastore().add_image(name, str(tmp_path / "ct.nrrd"), {})
        os.utime(app.datastore().get_image_uri(name), (day * 86400, day * 86400))
    picked = pick(app, "newest")
    assert picked["id"] == "a" and "no header of 3 CTs without a PET has a date" in picked["why"]


def test_while_nothing_is_known_the_newest_is_picked_and_that_is_said(app: CT2PETApp) -> None:
    picked = pick(app, "uncertain")
    assert picked["id"] == "1.2.2.1"
    assert (
        "is not known for any of them yet (POST /scoring/uncertainty computes it), so the newest of 3" in picked["why"]
    )


def test_the_most_uncertain_of_those_that_are_known(app: CT2PETApp) -> None:
    expect(app, "1.2.1.1", 0.7)
    expect(app, "1.2.3.1", 0.4)
    picked = pick(app, "uncertain")
    assert (picked["id"], picked["expected_error_suv"], picked["unknown"]) == ("1.2.1.1", 0.7, 1)
    assert "0.700 SUV on average in the body, among 2 CTs; it is not known for 1 more" in picked["why"]


def test_what_former_weights_expected_is_forgotten(app: CT2PETApp) -> None:
    expect(app, "1.2.1.1", 0.7, checksum="of former weights")
    assert pick(app, "uncertain")["id"] == "1.2.2.1"


def test_a_model_without_uncertainty_is_reported(app: CT2PETApp) -> None:
    assert "no served model predicts its error" in pick(app, "uncertain", model="unet")["why"]


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"strategy": "newset"}, NotFoundError, "no strategy 'newset'; did you mean newest"),
        ({"strategy": "uncertain", "model": "unet9"}, NotFoundError, "no model 'unet9'"),
        ({"strategy": "first", "label_tag": ["x"]}, RequestError, "label_tag: expected a string"),
    ],
)
def test_invalid_parameters_are_refused(app: CT2PETApp, request_: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        app.next_sample(request_)
