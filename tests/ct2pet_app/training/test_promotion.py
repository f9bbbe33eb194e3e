"""Whether a trained model is served, also after a kill, and which weights a running request keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.datastore.ct_source import OpenedCT
from ct2pet_app.inference.request import InferOptions
from ct2pet_app.model_registry.model_info import describe_version
from ct2pet_app.model_registry.versions import Verdict, Version
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.training import promotion as publish_module
from ct2pet_app.training.promotion import publish_if_better
from tests.ct2pet_app.constant_model import save_constant_model

MakeApp = Callable[..., CT2PETApp]


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> CT2PETApp:
    """An app whose unet predicts 1 SUV everywhere."""
    built = make_app()
    built.models.publish("unet", constant(tmp_path, 1.0))
    return built


def constant(folder: Path, suv: float, **trained: Any) -> Path:
    return save_constant_model(folder / f"{suv}.safetensors", suv, stages=1, **trained)


def ask(app: CT2PETApp, candidate: Path, **more: Any) -> Version:
    pairs = app.studies_datastore.training_pairs()
    return publish_if_better("unet", candidate, app.models, pairs, origin="training run 1", device="cpu", **more)


def verdict_of(version: Version) -> Verdict:
    assert version.verdict is not None
    return version.verdict


def served(app: CT2PETApp) -> int | None:
    published = app.models.published("unet")
    return None if published is None else published.version


# Phantom uptake is near 0.5 to 2 SUV in most of the body.
def test_a_worse_model_is_kept_with_the_reason_in_numbers(app: CT2PETApp, tmp_path: Path) -> None:
    version = ask(app, constant(tmp_path, 9.0), parent=1)
    verdict = verdict_of(version)
    assert (version.number, version.parent, verdict.published, served(app)) == (2, 1, False, 1)
    message = "version 2 is kept, but not served; version 1 stays. Worse than version 1: body MAE "
    assert verdict.verdict.startswith(message)
    assert "; tested on 2 patients." in verdict.verdict
    described = describe_version("unet", version, served=False)["verdict"]
    assert described["advice"] == 'POST /ct2pet/models/unet/serve with {"version": 2} serves it anyway'
    assert verdict.figures is not None and verdict.figures["patients"] == 2


def test_a_first_model_that_beats_no_baseline_is_kept_and_not_served(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    version = ask(app, constant(tmp_path, 9.0))
    assert (verdict_of(version).published, served(app)) == (False, None)
    assert "Not better than all baselines in any metric. " in verdict_of(version).verdict


def test_a_worse_model_is_served_if_the_request_says_always(app: CT2PETApp, tmp_path: Path) -> None:
    version = ask(app, constant(tmp_path, 9.0), rule="always")
    assert (verdict_of(version).published, served(app)) == (True, 2)
    assert verdict_of(version).verdict.startswith("version 2 is served, as requested. Worse than version 1: ")
    assert app.models.history("unet")[-1].why == verdict_of(version).verdict


def test_patients_a_model_was_trained_on_do_not_judge_it(app: CT2PETApp, tmp_path: Path) -> None:
    version = ask(app, constant(tmp_path, 0.9, trained_on=("PHANTOM_0001", "PHANTOM_0002")))
    assert (verdict_of(version).published, served(app)) == (False, 1)
    assert "there is no patient that neither was trained on" in verdict_of(version).verdict


def test_a_repeated_promotion_after_a_kill_does_nothing_twice(app: CT2PETApp, tmp_path: Path) -> None:
    candidate = constant(tmp_path, 0.9)
    first, second = ask(app, candidate, rule="always"), ask(app, candidate)
    assert first == second
    assert [line.version for line in app.models.history("unet")] == [1, 2]


def test_a_champion_replaced_during_the_comparison_is_compared_again(
    app: CT2PETApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.models.publish("unet", constant(tmp_path, 2.0))
    compared_with: list[int | None] = []

    def judge(name: str, version: Version, champion: Any, *_: Any, **__: Any) -> Verdict:
        compared_with.append(champion.version)
        if len(compared_with) == 1:
            app.models.roll_back("unet")
        return Verdict(len(compared_with) == 1, "")

    monkeypatch.setattr(publish_module, "judge", judge)
    ask(app, constant(tmp_path, 3.0))
    assert (compared_with, served(app)) == ([2, 1], 1)


def test_a_champion_with_unusable_weights_is_replaced(app: CT2PETApp, tmp_path: Path) -> None:
    app.models.path("unet").write_bytes(b"junk")
    version = ask(app, constant(tmp_path, 0.9), rule="always")
    assert (version.number, served(app)) == (2, 2)


def test_a_request_under_way_keeps_the_weights_it_began_with(
    app: CT2PETApp, ct_uids: tuple[str, ...], tmp_path: Path
) -> None:
    task, source = app._infers["unet"], app.studies_datastore.cts.image(ct_uids[0])
    reading, published = threading.Event(), threading.Event()

    @contextmanager
    def open_slowly(is_disconnected: IsDisconnected) -> Iterator[OpenedCT]:
        reading.set()
        assert published.wait(60)
        with source.open(is_disconnected) as opened:
            yield opened

    answers: list[dict[str, Any]] = []

    def request(of: Any) -> None:
        answers.append(task({"source": of, "options": InferOptions.from_params({}), "store": None})[1])

    under_way = threading.Thread(target=request, args=(replace(source, open=open_slowly),))
    under_way.start()
    assert reading.wait(60)
    app.models.publish("unet", constant(tmp_path, 2.0))
    request(source)
    published.set()
    under_way.join(60)
    first, second = app.models.versions("unet")
    assert [(params["model"]["version"], params["model"]["checksum"]) for params in answers] == [
        (2, second.checksum),
        (1, first.checksum),
    ]
    assert [params["suv"]["mean"] for params in answers] == [pytest.approx(2.0, rel=1e-2), pytest.approx(1.0, rel=1e-2)]
