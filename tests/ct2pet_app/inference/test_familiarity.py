"""A CT that is unlike the training CTs: refused unless allowed, and then marked everywhere."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydicom import dcmread

from ct2pet_app.advice import detail_of
from ct2pet_app.api import infer as infer_routes
from ct2pet_app.api.deps import set_app
from ct2pet_app.app import CT2PETApp
from ct2pet_app.inference import job as job_module
from ct2pet_app.inference.response import header_text
from ct2pet_app.server.exception_handlers import install_exception_handlers
from lib.errors import InputError, UnlikeTrainingError
from lib.learning.familiarity.reference import Reference
from lib.synthesis.familiarity import check_familiarity
from tests.ct2pet_app.constant_model import save_constant_model
from tests.learning.familiarity.limbs import limb_reference


@pytest.fixture(scope="module")
def limbs() -> Reference:
    return limb_reference()


@pytest.fixture
def app(make_app: Callable[..., CT2PETApp], limbs: Reference, tmp_path: Path) -> CT2PETApp:
    """An app whose cascade3 was trained on limbs and whose unet does not say; the CTs are chests."""
    built = make_app()
    built.models.publish("cascade3", save_constant_model(tmp_path / "limbs.safetensors", 2.5, familiarity=limbs))
    built.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", 2.5, stages=1))
    return built


@pytest.fixture
def post(app: CT2PETApp) -> Callable[..., httpx.Response]:
    application = FastAPI()
    set_app(application, app)
    application.include_router(infer_routes.router)
    install_exception_handlers(application)

    async def send(url: str, **form: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            return await client.post(url, data=form)

    return lambda url, **form: asyncio.run(send(url, **form))


def infer(app: CT2PETApp, image: str, **params: Any) -> dict[str, Any]:
    return dict(app.infer({"model": "cascade3", "image": image, "metrics": False, **params})["params"])


def test_it_is_refused_with_its_reasons(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    with pytest.raises(UnlikeTrainingError) as refusal:
        infer(app, ct_uids[0])
    assert refusal.value.code == "unlike_training_cts"
    assert any("field of view, width 410 mm" in reason for reason in refusal.value.params["reasons"])
    detail = detail_of(refusal.value)
    assert detail.startswith(f"CT {ct_uids[0]}: This CT is unlike the training CTs: ")
    assert detail.endswith("send it again with allow_unlike=true")


def test_allowed_it_is_synthesised_with_a_warning(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    metadata = infer(app, ct_uids[0], allow_unlike=True)
    assert metadata["familiarity"]["level"] == "unlike"
    assert metadata["familiarity"]["score"] > 2
    assert metadata["warnings"][0] == metadata["familiarity"]["sentence"]
    json.dumps(metadata, allow_nan=False)


def test_a_model_that_does_not_describe_its_cts_warns_of_nothing(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    metadata = infer(app, ct_uids[0], model="unet")
    assert metadata["familiarity"]["level"] == "unknown"
    assert metadata["familiarity"]["sentence"].startswith("Whether this CT resembles the training CTs is unknown")
    assert not any("training CTs" in warning for warning in metadata["warnings"])


def test_the_slabs_of_a_ct_are_checked_once(
    app: CT2PETApp, ct_uids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[object] = []
    monkeypatch.setattr(job_module, "check_familiarity", lambda *args: checked.append(args) or check_familiarity(*args))
    for slices in ("0:2", "2:4"):
        infer(app, ct_uids[0], slices=slices, allow_unlike=True)
    with pytest.raises(InputError):
        infer(app, ct_uids[0], slices="4:6")
    assert len(checked) == 1


def test_a_client_gets_a_problem_or_headers(post: Callable[..., httpx.Response], ct_uids: tuple[str, ...]) -> None:
    url = f"/infer/cascade3?image={ct_uids[0]}&output=image"
    refused = post(url)
    assert (refused.status_code, refused.json()["code"]) == (422, "unlike_training_cts")
    allowed = post(url, params=json.dumps({"allow_unlike": True}))
    assert (allowed.status_code, allowed.headers["X-CT2PET-Familiarity"]) == (200, "unlike")
    assert "field of view" in allowed.headers["X-CT2PET-Familiarity-Reasons"]


def test_the_comment_of_a_dicom_series_begins_with_the_warning(
    post: Callable[..., httpx.Response], ct_uids: tuple[str, ...]
) -> None:
    url = f"/ct2pet/dicom/cascade3?image={ct_uids[0]}"
    assert post(url).status_code == 422
    with zipfile.ZipFile(io.BytesIO(post(f"{url}&allow_unlike=true").content)) as zipped:
        comment = str(dcmread(io.BytesIO(zipped.read(zipped.namelist()[0]))).ImageComments)
    assert comment.startswith("This CT is unlike the training CTs: ")
    assert "SYNTHETIC PET: estimated from a CT by a model, not measured." in comment


def test_a_batch_records_the_reason_and_goes_on(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="unlike the training CTs"):  # all failed
        app.batch_infer({"model": "cascade3", "images": list(ct_uids), "metrics": False})
    results = app.batch_infer({"model": "cascade3", "images": list(ct_uids), "metrics": False, "allow_unlike": True})
    assert [results[uid]["familiarity"] for uid in ct_uids] == ["unlike", "unlike"]
    assert results[ct_uids[0]]["warnings"][0].startswith("This CT is unlike the training CTs: ")


def test_a_header_is_one_line_of_ascii() -> None:
    assert header_text("größer\nals 5 mm") == "gr??er als 5 mm"
