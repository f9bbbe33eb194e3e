"""A damaged file of the server loses its own content only: every endpoint still responds."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from monailabel.utils.async_tasks.utils import background_tasks

from ct2pet_app.api import models, tasks
from ct2pet_app.api.deps import set_app
from ct2pet_app.app import CT2PETApp
from ct2pet_app.model_registry.versions import Verdict
from tests.ct2pet_app.constant_model import save_constant_model

MakeApp = Callable[..., CT2PETApp]
REPORT, RUN = "0" * 32, "0001-20260101-000000"
DEEP = b"[" * 100_000 + b"]" * 100_000
TEXTS = {
    "empty": b"",
    "cut off": b'{"epoch": 1, "na',
    "a list": b"[1]",
    "null": b"null",
    "a number": b"3",
    "NaN": b'{"epoch": NaN, "best_metric": NaN, "when": NaN}',
    "infinite": b'{"epoch": 1e999, "best_metric": -Infinity}',
    "surrogate": rb'{"run": "\ud800", "epoch": "\udfff", "\ud800": 1}',
    "latin-1": '{"verdict": "é"}'.encode("latin-1"),
    "binary": bytes(range(256)) * 100,
    "deep": b'{"epoch": ' + DEEP + b"}",
    "5,000 digits": b'{"epoch": ' + b"9" * 5000 + b"}",
}
VALUES: tuple[Any, ...] = ("x", None, [], {"a": [1]}, "\ud800", float("nan"), 10**30)
ADDRESSES = ("/ct2pet/training", "/ct2pet/training?model=unet", "/ct2pet/models", "/ct2pet/models/unet",
             "/ct2pet/scores", "/train/", "/train/?all=true", "/scoring/", "/info/")  # fmt: skip
FILES = {
    "begun.json": {"pretrained": True, "parent": None},
    "train_stats.json": {"epoch": 1, "total_epochs": 2, "best_metric": 0.5, "eval": {"metrics": {"a": 0.5}}},
    "verdict.json": {"published": True, "verdict": "served", "version": 1},
    "history.jsonl": {"epoch": 1, "loss": 0.5, "learning_rate": 0.1, "seconds": 1.0, "metrics": {"a": 0.1}},
}


@pytest.fixture
def app(make_app: MakeApp, tmp_path: Path) -> Iterator[CT2PETApp]:
    """An app with one version, one run, and one task of each kind that ended."""
    app = make_app()
    version = app.models.publish("unet", save_constant_model(tmp_path / "model.safetensors", 1.0, stages=1)).version
    app.models.judged("unet", app.models.version("unet", version or 0), Verdict(True, "good", {"mae": 0.5}))
    run = app.models.runs("unet") / RUN
    run.mkdir(parents=True)
    for name, content in FILES.items():
        (run / name).write_text(json.dumps(content) + "\n")
    (app.models.folder / "tasks").mkdir()
    (app.models.folder / "tasks" / f"{REPORT}.json").write_text(json.dumps({"run": RUN, "done": 1, "reasons": {}}))
    for method in ("train", "scoring"):
        request = {"model": "unet", "report": REPORT}
        background_tasks[method] = [{"id": "1", "status": "DONE", "request": request, "start_ts": "", "details": []}]
    yield app
    background_tasks.clear()


class Client:
    """A client that sends requests to the app in this process."""

    def __init__(self, server: FastAPI) -> None:
        self._transport = httpx.ASGITransport(server, raise_app_exceptions=False)

    def get(self, *addresses: str) -> list[httpx.Response]:
        """Return the responses, one for each URL."""

        async def answers() -> list[httpx.Response]:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://server") as client:
                return [await client.get(address) for address in addresses]

        return asyncio.run(answers())

    def json(self, address: str) -> Any:
        """Return the JSON response of one URL."""
        return self.get(address)[0].json()


@pytest.fixture
def client(app: CT2PETApp) -> Client:
    server = FastAPI()
    set_app(server, app)
    for router in (models.router, tasks.router):
        server.include_router(router)
    server.add_api_route("/info/", app.info)
    return Client(server)


def damaged_files(app: CT2PETApp) -> list[Path]:
    unet = app.models.folder / "unet"
    runs = [unet / "runs" / RUN / name for name in (*FILES, "recipe.json", "tracking.json")]
    own = [unet / "versions" / "0001" / "version.json", unet / "history.jsonl"]
    return [*runs, *own, app.models.folder / "tasks" / f"{REPORT}.json"]


def failing(client: Client) -> dict[str, int]:
    answers = client.get(*ADDRESSES)
    statuses = {address: answer.status_code for address, answer in zip(ADDRESSES, answers, strict=True)}
    return {address: status for address, status in statuses.items() if status != 200}


def test_intact_files_are_reported(client: Client) -> None:
    assert not failing(client)
    assert client.json("/ct2pet/training")["epochs"] == [{"epoch": 1, "loss": 0.5, "metrics": {"a": 0.1}}]
    assert client.json("/train/")["verdict"] == "served"
    assert client.json("/scoring/")["progress"]["done"] == 1
    assert client.json("/info/")["train_stats"]["unet"]["epoch"] == 1


def test_a_damaged_file_costs_itself(app: CT2PETApp, client: Client) -> None:
    for path in damaged_files(app):
        whole = path.read_bytes() if path.is_file() else b"{}"
        for name, content in TEXTS.items():
            path.write_bytes(content)
            assert not failing(client), f"{path.name}: {name}"
        path.unlink()
        path.mkdir()
        assert not failing(client), f"{path.name}: a folder"
        path.rmdir()
        path.write_bytes(whole)


def test_a_value_of_another_type_costs_its_file(app: CT2PETApp, client: Client) -> None:
    for path in damaged_files(app):
        whole = path.read_text() if path.is_file() else "{}"
        record = json.loads(whole)
        for key in record:
            for value in VALUES:
                path.write_text(json.dumps({**record, key: value}) + "\n")
                assert not failing(client), f"{path.name}: {key} = {value!r}"
        path.write_text(whole)


def test_damaged_scores_of_a_pair_cost_themselves(app: CT2PETApp, client: Client, ct_uids: tuple[str, ...]) -> None:
    published = app.models.published("unet")
    assert published is not None
    entry = {"model": "unet", "version": 1, "checksum": published.checksum, "trained": "", "seen": "never",
             "figures": {"model": {"mae_suv": 1.0}}, "files": "", "scored": "", "ct2pet": ""}  # fmt: skip
    wrong: tuple[Any, ...] = ([], 5, "x", {"model": []}, {"model": {"mae_suv": []}}, {"model": {"mae_suv": 1e999}}, {})
    for figures in wrong:
        info = {"scores": {"unet": {**entry, "figures": figures}}}
        app.studies_datastore.labels.record(ct_uids[0], "final", info)
        assert not failing(client), figures
    for key in entry:
        info = {"scores": {"unet": {**entry, key: ["x"]}}}
        app.studies_datastore.labels.record(ct_uids[0], "final", info)
        assert not failing(client), key


def test_a_diverging_training_is_reported(app: CT2PETApp, client: Client) -> None:
    path = app.models.runs("unet") / RUN / "history.jsonl"
    path.write_text(json.dumps({**FILES["history.jsonl"], "loss": float("nan")}) + "\n")
    assert client.json("/ct2pet/training")["epochs"] == [{"epoch": 1, "loss": None, "metrics": {"a": 0.1}}]


def test_folders_that_are_no_runs_or_versions_are_left_alone(app: CT2PETApp, client: Client) -> None:
    for name in ("backup", "99991231-235959", "²", "9" * 200):
        (app.models.runs("unet") / name).mkdir()
        (app.models.folder / "unet" / "versions" / name).mkdir()
    assert not failing(client)
    assert client.json("/ct2pet/training")["run"] == RUN
    shutil.rmtree(app.models.runs("unet"))
    app.models.runs("unet").write_text("a file")
    assert not failing(client)
