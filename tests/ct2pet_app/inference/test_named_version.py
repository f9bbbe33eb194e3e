"""A request may name a version: that one is used, the served one stays, and at most one more is kept in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.model_registry.registry import ModelRegistry
from lib.errors import CheckpointError
from tests.ct2pet_app.constant_model import save_constant_model

MakeApp = Callable[..., CT2PETApp]
SUVS = (1.0, 2.0, 3.0)  # what versions 1, 2 and 3 predict everywhere; 3 is served


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> CT2PETApp:
    app = make_app()
    for suv in SUVS:
        app.models.publish("cascade3", save_constant_model(tmp_path / f"{suv}.safetensors", suv))
    return app


def infer(app: CT2PETApp, image: str, **params: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = app.infer({"model": "cascade3", "image": image, "metrics": False, **params})["params"]
    return metadata


@pytest.mark.parametrize("version", [1, "1", 2, 3, "", None])
def test_the_requested_version_is_used_and_the_served_one_stays(
    app: CT2PETApp, ct_uids: tuple[str, ...], version: int | str | None
) -> None:
    history = app.models.history("cascade3")
    metadata = infer(app, ct_uids[0], version=version)
    number = int(version or 3)
    assert metadata["model"]["version"] == number
    assert metadata["model"]["checksum"] == app.models.version("cascade3", number).checksum
    assert metadata["suv"]["mean"] == pytest.approx(SUVS[number - 1], rel=1e-2)
    assert "version" not in metadata["ignored"]
    after = infer(app, ct_uids[0])
    assert (after["model"]["version"], after["suv"]["mean"]) == (3, pytest.approx(3.0, rel=1e-2))
    assert app.models.history("cascade3") == history


def test_a_kept_version_can_be_requested_while_nothing_is_served(
    make_app: MakeApp, ct_uids: tuple[str, ...], tmp_path: Path
) -> None:
    app = make_app()
    app.models.keep("cascade3", save_constant_model(tmp_path / "c.safetensors", 2.0), origin="training run 1")
    assert infer(app, ct_uids[0], version=1)["model"]["version"] == 1
    assert app.models.published("cascade3") is None


def test_a_version_that_is_not_there_is_refused_with_those_that_are(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    with pytest.raises(NotFoundError, match="cascade3 has no version 99; known are 1, 2, 3"):
        infer(app, ct_uids[0], version=99)
    with pytest.raises(NotFoundError, match="unet has no version 1; known are none yet"):
        app.infer({"model": "unet", "image": ct_uids[0], "version": 1})


@pytest.mark.parametrize("value", ["served", "../1", True, 1.5, -1, [1], {"a": 1}, "1234567", "\u0661"])
def test_what_is_no_number_of_a_version_is_refused(app: CT2PETApp, ct_uids: tuple[str, ...], value: Any) -> None:
    with pytest.raises(RequestError, match="expected the number of a version"):
        infer(app, ct_uids[0], version=value)


def test_a_modified_version_is_not_used(app: CT2PETApp, ct_uids: tuple[str, ...], tmp_path: Path) -> None:
    checkpoint = app.models.version("cascade3", 1).checkpoint
    checkpoint.chmod(0o644)
    save_constant_model(checkpoint, 9.0)
    with pytest.raises(CheckpointError, match="version 1 of cascade3 was modified"):
        infer(app, ct_uids[0], version=1)


def test_each_version_makes_a_dicom_series_of_its_own(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    uids = [
        infer(app, ct_uids[0], version=version, result_extension=".zip")["series"]["series_instance_uid"]
        for version in (1, 2, 1)
    ]
    assert uids[0] == uids[2] != uids[1]


def alive(held: list[weakref.ref[object]]) -> int:
    gc.collect()
    return sum(one() is not None for one in held)


def test_memory_holds_what_is_served_and_one_other(app: CT2PETApp) -> None:
    models: ModelRegistry = app.models
    served = weakref.ref(models.loaded("cascade3")[1])
    held: list[weakref.ref[object]] = []
    for version in (1, 2, 1):
        held.append(weakref.ref(models.loaded("cascade3", version)[1]))
        assert (alive(held), served() is not None) == (1, True)
    assert models.loaded("cascade3", 1)[1] is held[-1]()  # not loaded again
    assert models.loaded("cascade3", 3)[1] is served()
    assert models.loaded("cascade3")[0].version == 3
