"""The map of errors to expect, as the app gives it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.inference.response import uncertainty_file
from lib.errors import CheckpointError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from lib.metrics.calibration import Calibration
from tests.ct2pet_app.constant_model import save_constant_model

CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV


@pytest.fixture
def app(make_app: Callable[..., CT2PETApp], tmp_path: Path) -> CT2PETApp:
    """An app whose cascade3 predicts 2.0 SUV everywhere and expects 0.5 SUV of error; its unet expects nothing."""
    built = make_app()
    built.models.publish("cascade3", save_constant_model(tmp_path / "cascade3.safetensors", 2.0, calibration=CURVE))
    built.models.publish("unet", save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1))
    return built


def infer(app: CT2PETApp, image: str, *, model: str = "cascade3", **params: Any) -> dict[str, Any]:
    return app.infer({"model": model, "image": image, **params})


def test_the_uncertainty_map_has_the_grid_of_the_pet(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    result = infer(app, ct_uids[0], uncertainty=True)
    path = uncertainty_file(result)
    assert path is not None
    pet, error = (read_volume_file(Path(file), unit=Unit.SUV_BW) for file in (result["file"], path))
    assert error.geometry.same_grid_as(pet.geometry, tolerance_mm=1e-4)
    np.testing.assert_allclose(pet.array, 2.0, rtol=1e-2)
    np.testing.assert_allclose(np.unique(error.array), [0, 0.5], rtol=1e-2)  # air, body
    metadata = result["params"]["uncertainty"]
    assert (metadata["file"], metadata["unit"], metadata["calibrated_on"]) == (path.name, "SUVbw", 5)
    assert "0 outside the body" in metadata["what"]
    json.dumps(result["params"], allow_nan=False)


def test_the_map_alone_can_be_requested(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    result = infer(app, ct_uids[0], uncertainty="only", slices="1:4")
    error = read_volume_file(Path(result["file"]), unit=Unit.SUV_BW)
    assert error.array.shape[0] == 3 and error.array.max() == pytest.approx(0.5, rel=1e-2)
    assert uncertainty_file(result) is None
    assert result["params"]["uncertainty"]["file"] == Path(result["file"]).name
    assert [path.name for path in Path(result["file"]).parent.iterdir()] == [Path(result["file"]).name]


def test_by_default_there_is_no_map(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    result = infer(app, ct_uids[0])
    assert result["params"]["uncertainty"] is None and uncertainty_file(result) is None


def test_a_model_that_expects_nothing_says_so(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    listed = app.info()["models"]
    assert (listed["cascade3"]["uncertainty"], listed["unet"]["uncertainty"]) == (True, False)
    assert "calibration" not in listed["cascade3"]["card"]  # long, and for our code
    with pytest.raises(CheckpointError, match="constant-1 carries no calibration"):
        infer(app, ct_uids[0], model="unet", uncertainty=True)
    assert infer(app, ct_uids[0], model="unet")["params"]["suv"]["mean"] == pytest.approx(2.0, rel=1e-2)
