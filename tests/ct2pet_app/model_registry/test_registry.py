"""Models on disk and in memory: errors for untrained ones, new ones are loaded, invalid ones refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ct2pet_app.advice import detail_of
from ct2pet_app.app import CT2PETApp
from ct2pet_app.errors import NotFoundError
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.server.warm_up import load_models
from lib.errors import CheckpointError, ModelNotTrainedError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import load_checkpoint, save_checkpoint
from lib.learning.model_card.scores import scores_of
from lib.metrics.criteria import METHODS
from lib.synthesis.synthesizer import Synthesizer
from tests.ct2pet_app.constant_model import save_constant_model

MakeApp = Callable[..., CT2PETApp]


@pytest.fixture
def models(make_app: MakeApp) -> ModelRegistry:
    return make_app().models


def test_an_untrained_model_says_how_to_train_it(models: ModelRegistry) -> None:
    message = r"model cascade3 is not trained yet; train it here \(POST /train/cascade3.*--stages 3.*cascade3/model"
    with pytest.raises(ModelNotTrainedError) as raised:
        models.synthesizer("cascade3")
    assert re.match(message, detail_of(raised.value))


def test_an_unknown_model_is_refused_with_the_known_ones(models: ModelRegistry) -> None:
    with pytest.raises(NotFoundError, match="no model 'unett' on this server; did you mean unet"):
        models.synthesizer("unett")


def test_a_model_that_is_not_switched_on_says_how(models: ModelRegistry) -> None:
    with pytest.raises(NotFoundError) as raised:
        models.synthesizer("cascade5")
    assert "start the server with --conf models unet,cascade3,cascade5" in detail_of(raised.value)


def test_a_published_model_is_loaded_and_holders_of_the_former_keep_it(models: ModelRegistry, tmp_path: Path) -> None:
    first = models.publish("unet", save_constant_model(tmp_path / "1.safetensors", 1.0, stages=1))
    held = models.synthesizer("unet")
    assert models.synthesizer("unet") is held
    second = models.publish("unet", save_constant_model(tmp_path / "2.safetensors", 2.0, stages=1))
    assert (held.checksum, models.synthesizer("unet").checksum) == (first.checksum, second.checksum)
    assert first.checksum != second.checksum


def test_published_models_are_loaded_before_the_first_request(
    models: ModelRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.publish("cascade3", save_constant_model(tmp_path / "3.safetensors", 1.0))
    models.path("unet").parent.mkdir(exist_ok=True)
    models.path("unet").write_bytes(b"damaged")
    load_models(models)
    assert "unet cannot be loaded" in caplog.text
    monkeypatch.setattr(Synthesizer, "load", None)  # not called again
    assert models.synthesizer("cascade3").card.name == "constant-3"


def test_a_model_with_another_number_of_stages_is_refused(models: ModelRegistry, tmp_path: Path) -> None:
    models.publish("unet", save_constant_model(tmp_path / "1.safetensors", 1.0, stages=1))
    before = models.path("unet").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"holds 3 stage\(s\), unet has 1; it belongs to cascade3, which must be among"
    ):
        models.publish("unet", save_constant_model(tmp_path / "3.safetensors", 1.0, stages=3))
    assert models.path("unet").read_bytes() == before


def test_a_file_that_is_no_model_never_replaces_one(models: ModelRegistry, tmp_path: Path) -> None:
    models.publish("unet", save_constant_model(tmp_path / "1.safetensors", 1.0, stages=1))
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="not a readable"):
        models.publish("unet", tmp_path / "junk.safetensors")
    assert models.synthesizer("unet").card.name == "constant-1"


def test_a_damaged_published_file_is_listed_with_the_reason(make_app: MakeApp) -> None:
    app = make_app()
    app.models.path("unet").parent.mkdir(parents=True)
    app.models.path("unet").write_bytes(b"junk")
    listed = app.info()["models"]["unet"]
    assert listed["trained"] is False
    assert listed["description"].startswith("unusable: ")


def test_a_model_is_listed_with_its_comparison_with_baselines(
    make_app: MakeApp, tmp_path: Path, ct_uids: tuple[str, ...]
) -> None:
    app = make_app()
    path = save_constant_model(tmp_path / "1.safetensors", 1.0, stages=1)
    cascade, card = load_checkpoint(path)
    equal = {"mae_suv_body": 0.5, "psnr_db_body": 20.0, "ssim_body": 0.8, "correlation_body": 0.5, "hu_share": 0.1}
    scores = scores_of("validation", [("p", dict.fromkeys(METHODS, equal))])
    app.models.publish("unet", save_checkpoint(path, cascade, replace(card, scores=scores)))
    listed = app.info()["models"]["unet"]
    message = "Not better than any baseline in body MAE, "
    assert listed["standing"]["mark"] == "does not beat all" and message in listed["description"]
    answer = app.infer({"model": "unet", "image": ct_uids[0]})["params"]
    assert answer["standing"] == listed["standing"] == answer["model"]["card"]["standing"]
    assert "by_patient" not in answer["model"]["card"]["scores"] and "baselines" not in listed["card"]
    assert app.info()["models"]["cascade3"]["standing"] is None


def test_a_constant_model_predicts_its_constant(models: ModelRegistry, tmp_path: Path) -> None:
    models.publish("cascade3", save_constant_model(tmp_path / "c.safetensors", 2.5))
    ct = Volume(np.zeros((3, 8, 8), np.float32), Geometry((3, 8, 8), np.eye(4)), Unit.HU)
    np.testing.assert_allclose(models.synthesizer("cascade3").apply(ct).array, 2.5, rtol=1e-2)  # bfloat16 rounds
