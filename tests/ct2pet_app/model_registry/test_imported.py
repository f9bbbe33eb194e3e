"""An imported network among the versions of a model: served, listed, applied and rolled back like any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ct2pet_app.advice import detail_of
from ct2pet_app.app import CT2PETApp
from ct2pet_app.model_registry.model_info import describe_model
from lib.errors import CheckpointError
from lib.learning.checkpoint import save_external
from lib.learning.exchange.import_onnx import ImportSettings, import_onnx
from lib.learning.model_card.scores import scores_of
from lib.metrics.criteria import METHODS
from lib.networks.external import onnx_runtime
from tests.ct2pet_app.constant_model import save_constant_model
from tests.networks.external.onnx_files import picking

MakeApp = Callable[..., CT2PETApp]


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A network that returns the CT's window as 0 to 3 SUV, with scores equal to those of the baselines."""
    content = picking([0], 1)
    card = import_onnx(content, "rival", ImportSettings(pixel_mm=6.4, formula="3x"), source="https://example.org")
    equal = {"mae_suv_body": 0.5, "psnr_db_body": 20.0, "ssim_body": 0.8, "correlation_body": 0.5, "hu_share": 0.1}
    scores = scores_of("test", [("p", dict.fromkeys(METHODS, equal))])
    return save_external(tmp_path / "rival.safetensors", content, replace(card, scores=scores))


def test_it_is_a_version_that_is_served_and_rolled_back(
    make_app: MakeApp, imported: Path, tmp_path: Path, ct_uids: tuple[str, ...]
) -> None:
    app = make_app()
    app.models.publish("cascade3", save_constant_model(tmp_path / "ours.safetensors", 1.0))
    published = app.models.publish("cascade3", imported)
    listed = app.info()["models"]["cascade3"]
    assert "trained on unknown data (imported network)" in listed["description"]
    assert listed["standing"]["mark"] == "does not beat all"
    assert listed["card"]["external"]["source"] == "https://example.org"
    answer = app.infer({"model": "cascade3", "image": ct_uids[0]})["params"]
    assert answer["model"]["checksum"] == published.checksum and 0.5 < answer["suv"]["max"] <= 3
    versions = describe_model(app.models, "cascade3")["versions"]
    assert [(one["card"]["name"], one["served"]) for one in versions] == [("constant-3", False), ("rival", True)]
    app.models.roll_back("cascade3")
    assert app.models.synthesizer("cascade3").card.name == "constant-3"
    assert app.models.loaded("cascade3", 2)[1].card.name == "rival"


def test_without_onnxruntime_the_server_says_what_to_install(
    make_app: MakeApp, imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    monkeypatch.setattr(onnx_runtime.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError) as refused:
        app.models.publish("unet", imported)
    assert "requirements-onnx.txt` installs them" in detail_of(refused.value)
    assert app.models.published("unet") is None
