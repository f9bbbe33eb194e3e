"""The server's part of a job: what is repeated, what is given up, and what is told about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.datastore.folder import FolderDatastore
from ct2pet_app.datastore.own_folders import RECEIVED
from ct2pet_app.dicom_node.database import QueueDatabase
from ct2pet_app.dicom_node.layout import NodeLayout
from ct2pet_app.dicom_node.worker import MAX_UNEXPECTED, SynthesisWorker, synthesis_worker
from ct2pet_app.errors import SettingsError
from lib.errors import BusyError, UnlikeTrainingError
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.dicom_node.peers import RULE, peers_toml, wait_for
from tests.ct2pet_app.tiny_studies import TINY

Synthesize = Callable[..., dict[str, Any]]


@pytest.fixture
def layout(tmp_path: Path) -> NodeLayout:
    layout = NodeLayout(tmp_path / "studies", tmp_path / "models")
    write_phantoms(layout.received, patients=1, settings=TINY)
    layout.create()
    (tmp_path / "peers.toml").write_text(peers_toml(receiver_port=104, retry_s=0.1, rules=RULE))
    return layout


def worker_of(layout: NodeLayout, synthesize: Synthesize) -> tuple[SynthesisWorker, str]:
    """Return a worker with one job for the CT in the studies folder, and the CT's UID."""
    datastore = FolderDatastore(layout.studies, layout.models_folder)
    (uid,) = datastore.list_images()
    database = QueueDatabase(layout.queue)
    with database.transaction() as connection:
        connection.execute(f"INSERT INTO series VALUES ('{uid}', '1.1', 'p', 'CT', '::1', 'complete', 0, 0, '')")
        connection.execute(
            "INSERT INTO job (series_uid, content, model, send_to, state, since) VALUES (?, 'c', 'unet', 'PACS', "
            "'waiting', 0)",
            (uid,),
        )
    database.close()
    worker = synthesis_worker(
        layout.studies.parent / "peers.toml",
        studies=str(layout.studies),
        models_folder=layout.models_folder,
        models=("unet",),
        datastore=datastore,
        synthesize=synthesize,
    )
    return worker, uid


def events(layout: NodeLayout, name: str) -> list[dict[str, Any]]:
    lines = layout.audit.read_text().splitlines() if layout.audit.is_file() else []
    return [line for line in map(json.loads, lines) if line["event"] == name]


def ended(layout: NodeLayout, worker: SynthesisWorker, event: str, number: int = 1) -> dict[str, Any]:
    """Run the worker until an event has occurred so often, and return its last line."""
    worker.start()
    wait_for(event, lambda: len(events(layout, event)) >= number)
    worker.stop()
    return events(layout, event)[-1]


def test_a_received_series_is_part_of_the_studies(layout: NodeLayout) -> None:
    assert layout.received == layout.studies / RECEIVED
    layout.incoming.joinpath("half.dcm").write_bytes(b"not complete")
    assert len(FolderDatastore(layout.studies, layout.models_folder).list_images()) == 1


def test_a_ct_unlike_the_training_cts_is_given_up_with_the_reason(layout: NodeLayout) -> None:
    asked = []

    def refuse(model: str, source: Any, params: Any) -> dict[str, Any]:
        asked.append((model, source.image_id, dict(params)))
        raise UnlikeTrainingError("its contrast is unlike")

    worker, uid = worker_of(layout, refuse)
    line = ended(layout, worker, "synthesis_failed")
    assert line["reason"] == "unlike_training_cts: its contrast is unlike"
    assert line["series_uid"] == uid
    assert asked == [("unet", uid, {"result_extension": ".zip", "metrics": False})]


def test_a_busy_server_tries_again_and_delivers(layout: NodeLayout) -> None:
    answers: list[Exception | None] = [BusyError("wait"), ValueError("surprise"), None]

    def synthesize(model: str, source: Any, params: Any) -> dict[str, Any]:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        result = layout.models_folder / "result.zip"
        result.write_bytes(b"zip")
        metadata = {
            "series": {"series_instance_uid": "2.25.7"},
            "model": {"version": 3, "checksum": "abc"},
            "familiarity": {"level": "typical"},
        }
        return {"file": str(result), "params": metadata}

    worker, _ = worker_of(layout, synthesize)
    line = ended(layout, worker, "synthesised")
    assert (line["result_uid"], line["version"]) == ("2.25.7", 3)
    assert [path.read_bytes() for path in layout.outbox.iterdir()] == [b"zip"]
    reasons = [line["reason"] for line in events(layout, "synthesis_postponed")]
    assert reasons == ["busy: wait", "unexpected ValueError; see the server's log"]  # not its message


def test_a_fault_of_ours_is_not_repeated_for_ever(layout: NodeLayout) -> None:
    def fail(model: str, source: Any, params: Any) -> dict[str, Any]:
        raise ValueError("surprise")

    worker, _ = worker_of(layout, fail)
    ended(layout, worker, "synthesis_failed")
    assert len(events(layout, "synthesis_postponed")) == MAX_UNEXPECTED - 1


def test_a_rule_for_a_model_that_is_not_served_is_refused(layout: NodeLayout) -> None:
    with pytest.raises(SettingsError, match="a rule names the model 'unet', which this server does not serve"):
        synthesis_worker(
            layout.studies.parent / "peers.toml",
            studies=str(layout.studies),
            models_folder=layout.models_folder,
            models=("cascade3",),
            datastore=FolderDatastore(layout.studies, layout.models_folder),
            synthesize=dict,
        )
