"""The synthetic PET as a DICOM series: downloaded as a zip, and stored by its CT."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydicom import dcmread

from ct2pet_app.api import infer as infer_routes
from ct2pet_app.api.deps import set_app
from ct2pet_app.app import CT2PETApp
from ct2pet_app.datastore.ct_source import source_of_file
from ct2pet_app.errors import RequestError
from ct2pet_app.inference import job as job_module
from ct2pet_app.inference.request import InferOptions
from ct2pet_app.server.exception_handlers import install_exception_handlers
from lib.dicom.read.volume import read_synthetic_pet
from lib.dicom.scan.scan import scan_folder
from lib.dicom.write.pet_series import PlannedSeries
from lib.errors import InputError, MissingAttributeError
from lib.synthesis.synthesizer import Synthesizer
from lib.types import Series
from tests.ct2pet_app.constant_model import save_constant_model

SUV = 2.5


@pytest.fixture
def studies(phantoms: Path, tmp_path: Path) -> Path:
    """A copy of the phantoms that a test may store into."""
    return Path(shutil.copytree(phantoms, tmp_path / "studies"))


@pytest.fixture
def app(make_app: Callable[..., CT2PETApp], studies: Path, tmp_path: Path) -> CT2PETApp:
    """An app whose cascade3 predicts 2.5 SUV everywhere."""
    built = make_app(studies=studies)
    built.models.publish("cascade3", save_constant_model(tmp_path / "constant.safetensors", SUV))
    return built


@pytest.fixture
def post(app: CT2PETApp) -> Callable[[str], httpx.Response]:
    """A function that posts to our endpoints in a web application of this process."""
    application = FastAPI()
    set_app(application, app)
    application.include_router(infer_routes.router)
    install_exception_handlers(application)

    async def send(address: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            return await client.post(address)

    return lambda address: asyncio.run(send(address))


def infer(app: CT2PETApp, image: str, **params: Any) -> dict[str, Any]:
    return app.infer({"model": "cascade3", "image": image, **params})


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_series_is_downloaded_as_a_zip(
    post: Callable[[str], httpx.Response], ct_uids: tuple[str, ...], app: CT2PETApp
) -> None:
    answer = post(f"/ct2pet/dicom/cascade3?image={ct_uids[0]}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        instances = [dcmread(io.BytesIO(zipped.read(name))) for name in zipped.namelist()]
    assert len(instances) == 6
    assert {pet[0x0008001C].value for pet in instances} == {"YES"}
    assert f"{instances[0].SeriesInstanceUID}.zip" in answer.headers["content-disposition"]
    assert instances[0].ContributingEquipmentSequence[0].SoftwareVersions[1] == (
        app.models.synthesizer("cascade3").checksum
    )
    assert not list((app.models.folder / "results").iterdir())


def test_a_slab_of_the_zip_equals_that_of_the_full_volume(
    post: Callable[[str], httpx.Response], ct_uids: tuple[str, ...]
) -> None:
    def packed(query: str) -> dict[str, bytes]:
        """Return the files of an answer."""
        answer = post(f"/ct2pet/dicom/cascade3?image={ct_uids[0]}{query}")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
            return {name: zipped.read(name) for name in zipped.namelist()}

    whole, slab = packed(""), packed("&slices=2:4")
    assert len(slab) == 2 and slab.items() <= whole.items()


def test_the_headers_of_a_ct_are_read_once(
    app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []
    plan = job_module.plan_pet_series

    def counted(synthesizer: Synthesizer, ct: Series) -> PlannedSeries:
        planned.append(ct.uid)
        return plan(synthesizer, ct)

    monkeypatch.setattr(job_module, "plan_pet_series", counted)
    first, second = (
        infer(app, ct_uids[0], result_extension=".zip", slices=slices)["params"]["series"] for slices in ("0:2", "2:5")
    )
    assert planned == [ct_uids[0]]
    assert first["series_instance_uid"] == second["series_instance_uid"]
    infer(app, ct_uids[1], result_extension=".zip")
    files = app.studies_datastore.cts.image(ct_uids[0]).files
    os.utime(files[0], ns=(0, 0))  # a changed file is read again
    infer(app, ct_uids[0], result_extension=".zip")
    assert planned == [ct_uids[0], ct_uids[1], ct_uids[0]]


def test_stored_twice_it_is_there_once_and_is_no_real_pet(
    app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...]
) -> None:
    before, pairs = files_in(studies), set(app.studies_datastore.listing().pairs)
    reported = infer(app, ct_uids[0], store=True)["params"]["series"]
    stored = files_in(studies)
    assert infer(app, ct_uids[0], store=True)["params"]["series"] == reported
    assert files_in(studies) == stored
    folder = studies / "synthetic-pet" / reported["series_instance_uid"]
    assert (reported["instances"], reported["stored"]) == (6, True)
    assert stored.keys() - before.keys() == {str(path.relative_to(studies)) for path in folder.iterdir()}

    app.studies_datastore.refresh()
    listing = app.studies_datastore.listing()
    assert set(listing.pairs) == pairs and set(listing.images) == set(ct_uids)
    (found,) = (found for found in app.studies_datastore.describe_series() if found["files"] and not found["usable"])
    assert found["series_instance_uid"] == reported["series_instance_uid"]
    assert "synthetic PET" in found["why_not"] and found["study_instance_uid"] == reported["study_instance_uid"]
    assert {paired.pet.series.uid for paired in app.studies_datastore.training_pairs()} == {
        paired.pet.series.uid for paired in listing.pairs.values()
    }


def test_the_stored_series_equals_the_response(app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...]) -> None:
    reported = infer(app, ct_uids[0], store=True, slices="1:4")["params"]["series"]
    series = scan_folder(studies).find(reported["series_instance_uid"])
    assert series is not None
    volume = read_synthetic_pet(series.series)
    assert volume.array.shape[0] == reported["instances"] == 3
    np.testing.assert_allclose(volume.array, SUV, rtol=1e-2)


def test_another_model_is_another_series(
    app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...], tmp_path: Path
) -> None:
    first = infer(app, ct_uids[0], store=True)["params"]["series"]
    app.models.publish("cascade3", save_constant_model(tmp_path / "other.safetensors", 3.0))
    second = infer(app, ct_uids[0], store=True)["params"]["series"]
    assert first["study_instance_uid"] == second["study_instance_uid"]
    assert len(list((studies / "synthetic-pet").iterdir())) == 2


def test_by_default_nothing_is_stored_and_no_series_is_reported(
    app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...]
) -> None:
    before = files_in(studies)
    assert infer(app, ct_uids[0])["params"]["series"] is None
    assert infer(app, ct_uids[0], result_extension=".zip")["params"]["series"]["stored"] is False
    assert files_in(studies) == before


def test_nothing_is_stored_outside_the_studies(
    app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (studies / "synthetic-pet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="a link that leaves it"):
        infer(app, ct_uids[0], store=True)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_batch_stores_a_series_for_every_ct(app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...]) -> None:
    request = {"model": "cascade3", "store": True, "images": "all"}
    app.batch_infer(request)
    assert len(list((studies / "synthetic-pet").iterdir())) == len(ct_uids)


def test_missing_attributes_are_reported_before_the_synthesis(
    app: CT2PETApp, studies: Path, ct_uids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (studies / "PHANTOM_0001" / "CT").iterdir():
        dataset = dcmread(path)
        del dataset.FrameOfReferenceUID
        dataset.save_as(path)
    app.studies_datastore.refresh()
    monkeypatch.setattr("ct2pet_app.inference.task.predict", lambda *_: pytest.fail("the work was begun"))
    with pytest.raises(MissingAttributeError, match="FrameOfReferenceUID is missing"):
        infer(app, ct_uids[0], store=True)


@pytest.mark.parametrize("path", ["/etc/passwd", "..%2f..%2fetc", "1.2.3", "synthetic-pet"])
def test_what_is_no_image_is_not_found(post: Callable[[str], httpx.Response], path: str) -> None:
    answer = post(f"/ct2pet/dicom/cascade3?image={path}&store=true")
    assert (answer.status_code, "no image" in answer.text) == (404, True)


def test_an_upload_has_no_study(app: CT2PETApp, studies: Path, tmp_path: Path) -> None:
    source = source_of_file(studies / "PHANTOM_0001" / "CT", "an upload")
    with pytest.raises(RequestError, match="an upload does not belong to a study"):
        app.synthesize("cascade3", source, {"store": True})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"result_extension": ".zip", "uncertainty": True}, "a DICOM series is the PET alone"),
        ({"store": True, "uncertainty": "only"}, "a DICOM series is the PET alone"),
        ({"result_extension": ".zip", "save_label": True}, "a label is a volume file, not a .zip"),
        ({"store": "perhaps"}, "store 'perhaps': expected true or false"),
    ],
)
def test_contradictory_options_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InferOptions.from_params(params)
