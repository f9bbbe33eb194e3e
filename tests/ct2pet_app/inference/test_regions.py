"""Uptake of regions with their intervals, over the app's endpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from ct2pet_app.api import regions as region_routes
from ct2pet_app.api.deps import set_app
from ct2pet_app.app import CT2PETApp
from ct2pet_app.server.exception_handlers import install_exception_handlers
from lib.imaging.regions import Box, Sphere
from lib.imaging.volume import Unit, Volume
from lib.synthesis.regions import measure_region
from tests.ct2pet_app.constant_model import save_constant_model
from tests.learning.known_intervals import known_intervals

SUV = 4.0  # 90 %: (2 - 0.3)^2 to (2 + 0.3)^2
Post = Callable[[str, Any], httpx.Response]


@pytest.fixture
def app(make_app: Callable[..., CT2PETApp], tmp_path: Path) -> CT2PETApp:
    """An app whose cascade3 predicts 4.0 SUV with known intervals; its unet has none."""
    built = make_app()
    model = save_constant_model(tmp_path / "cascade3.safetensors", SUV, intervals=known_intervals(12))
    built.models.publish("cascade3", model)
    built.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", SUV, stages=1))
    return built


@pytest.fixture
def post(app: CT2PETApp) -> Post:
    application = FastAPI()
    set_app(application, app)
    application.include_router(region_routes.router)
    install_exception_handlers(application)

    async def send(path: str, body: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            return await client.post(path, json=body)

    return lambda path, body: asyncio.run(send(path, body))


@pytest.fixture
def center_mm(app: CT2PETApp, ct_uids: tuple[str, ...]) -> list[float]:
    """The centre of the first CT, which is inside the body."""
    ct = app.studies_datastore.cts.image(ct_uids[0]).read()
    return [float(x) for x in ct.geometry.corners_mm().mean(axis=0)]


def test_a_sphere_of_a_ct_is_answered_with_its_intervals(
    app: CT2PETApp, post: Post, ct_uids: tuple[str, ...], center_mm: list[float]
) -> None:
    response = post(f"/ct2pet/regions/cascade3?image={ct_uids[0]}", {"center_mm": center_mm, "radius_mm": 12})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["volume_ml"] == pytest.approx(7.2, rel=0.5)  # coarse voxels
    assert (answer["suv_mean"], answer["suv_max"]) == pytest.approx((SUV, SUV), rel=1e-2)
    for name in ("mean", "max"):
        interval = answer["interval"][name]
        assert (interval["low"], interval["high"]) == pytest.approx((2.89, 5.29), rel=1e-2)
        assert (interval["level"], interval["patients"]) == (0.9, 12)
        assert "(90 % interval 2.9 to 5.3; calibrated on 12 patients)" in interval["sentence"]
    assert answer["model"]["name"] == "cascade3" and "NOT FOR DIAGNOSIS" in answer["notice"]
    assert not list((app.models.folder / "results").iterdir())


def test_a_box_a_lesion_and_another_level(post: Post, ct_uids: tuple[str, ...], center_mm: list[float]) -> None:
    body = {"center_mm": center_mm, "size_mm": [20, 20, 4], "kind": "lesion", "level": 0.5}
    answer = post(f"/ct2pet/regions/cascade3?image={ct_uids[0]}", body).json()
    assert answer["kind"] == "lesion" and answer["slices"] == "2:4"  # only these are synthesised
    interval = answer["interval"]["max"]
    assert (interval["low"], interval["high"]) == pytest.approx((1.9**2, 2.1**2), rel=1e-2)
    assert "SUVmax of the lesion" in interval["sentence"]


def test_too_few_patients_and_a_model_without_intervals_say_so(
    post: Post, ct_uids: tuple[str, ...], center_mm: list[float]
) -> None:
    body = {"center_mm": center_mm, "radius_mm": 12, "level": 0.95}
    few = post(f"/ct2pet/regions/cascade3?image={ct_uids[0]}", body).json()["interval"]["mean"]
    assert (few["low"], few["high"]) == (None, None) and "needs 19 patients" in few["sentence"]
    none = post(f"/ct2pet/regions/unet?image={ct_uids[0]}", body).json()
    assert none["suv_mean"] == pytest.approx(SUV, rel=1e-2)
    assert none["interval"]["mean"]["patients"] == 0
    assert "no calibrated intervals" in none["interval"]["mean"]["sentence"]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({}, "invalid_request", "give one of the two"),
        ({"radius_mm": 5, "size_mm": [1, 1, 1]}, "invalid_request", "give one of the two"),
        ({"radius_mm": -5}, "invalid_request", "the radius of a sphere in mm"),
        ({"radius_mm": 1e9}, "invalid_request", "at most 400"),
        ({"radius_mm": 5, "level": 0.7}, "invalid_request", "expected one of 0.5, 0.8, 0.9, 0.95"),
        ({"radius_mm": 5, "kind": "organ"}, "invalid_request", "region, or lesion"),
        ({"radius": 5}, "invalid_request", "did you mean radius_mm"),
        ({"radius_mm": 5, "center_mm": [0, 0]}, "invalid_request", "[x, y, z] in mm"),
        ({"radius_mm": 5, "center_mm": [9000, 0, 0]}, "region_outside", "no voxel of the body"),
    ],
)
def test_an_invalid_region_is_refused_by_name(
    post: Post, ct_uids: tuple[str, ...], center_mm: list[float], change: dict[str, Any], code: str, message: str
) -> None:
    response = post(f"/ct2pet/regions/cascade3?image={ct_uids[0]}", {"center_mm": center_mm, **change})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (400, code)
    assert message in problem["detail"]


def test_an_inference_returns_a_region_too(app: CT2PETApp, ct_uids: tuple[str, ...], center_mm: list[float]) -> None:
    region = {"center_mm": center_mm, "radius_mm": 12}
    result = app.infer({"model": "cascade3", "image": ct_uids[0], "region": region})
    assert result["params"]["region"]["interval"]["mean"]["low"] == pytest.approx(2.89, rel=1e-2)
    json.dumps(result["params"], allow_nan=False)
    assert app.infer({"model": "cascade3", "image": ct_uids[0]})["params"]["region"] is None


def test_intervals_of_measured_regions(post: Post) -> None:
    regions = [
        {"volume_ml": 4, "suv_mean": 1, "suv_max": 4},
        {"volume_ml": 4, "suv_mean": 1, "suv_max": 4, "kind": "lesion"},
        {"volume_ml": 900, "suv_mean": 1, "suv_max": 4},
    ]
    answer = post("/ct2pet/intervals/cascade3", {"regions": regions}).json()
    first, lesion, large = answer["regions"]
    assert (first["interval"]["mean"]["low"], first["interval"]["mean"]["high"]) == pytest.approx(
        (0.49, 1.69), rel=1e-4
    )
    assert "SUVmean of the lesion" in lesion["interval"]["mean"]["sentence"]
    assert large["interval"]["max"]["low"] is None and "0.5 to 150 mL" in large["interval"]["max"]["sentence"]
    assert answer["model"]["version"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"regions": 3},
        {"regions": [{"volume_ml": 4}]},
        {"regions": [{"volume_ml": 4, "suv_mean": -1, "suv_max": 1}]},
        {"regions": [{"volume_ml": 4, "suv_mean": 1, "suv_max": 1}] * 201},
        {"regions": [], "version": "newest"},
    ],
)
def test_invalid_measured_regions_are_refused(post: Post, body: dict[str, Any]) -> None:
    response = post("/ct2pet/intervals/cascade3", body)
    assert response.status_code == 400, response.text
    assert "expected" in response.json()["detail"]


# -- the measurement ---------------------------------------------------------------------------------------------------


def test_voxels_outside_the_body_do_not_count(center_mm: list[float], app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    ct = app.studies_datastore.cts.image(ct_uids[0]).read()
    suv = np.arange(ct.array.size, dtype=np.float32).reshape(ct.array.shape) % 7
    pet = Volume(suv, ct.geometry, Unit.SUV_BW)
    x, y, z = center_mm
    whole = measure_region(pet, ct, Box((x, y, z), (2000, 2000, 2000)))
    inside = measure_region(pet, ct, Sphere((x, y, z), 8))
    voxel_ml = float(np.prod(ct.geometry.spacing_mm)) / 1000
    assert inside.volume_ml < whole.volume_ml < ct.array.size * voxel_ml * 0.9
    # a slab gives the same region
    middle = ct.geometry.shape[0] // 2
    slab = slice(middle - 2, middle + 2)
    assert measure_region(pet.slab(slab), ct, Sphere((x, y, z), 8), slices=slab) == inside
