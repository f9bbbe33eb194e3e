"""The real server on a PACS that lies: every answer is a sentence, /info/ goes on, and the server can be ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lib.sources.phantom import write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.tiny_studies import TINY
from tests.malicious_pacs import Behaviour, Kind, MaliciousPacs, answers, malicious_pacs, redirects
from tests.servers import RunningServer, running_server

pytestmark = pytest.mark.server

INFO_WITHIN_S = 0.5
STOPPED_WITHIN_S = 20.0

REFUSALS: dict[str, Behaviour] = {
    **{str(status): answers(status) for status in (400, 401, 403, 404, 410, 500)},
    "redirect": redirects(),
}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaliciousPacs]:
    """A PACS with one patient."""
    (folder,) = write_phantoms(tmp_path_factory.mktemp("studies"), patients=1, settings=TINY)
    with malicious_pacs(folder) as running:
        yield running


@pytest.fixture(scope="module")
def server(pacs: MaliciousPacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on it, with a model."""
    folder = tmp_path_factory.mktemp("server")
    with running_server("ct2pet_app", pacs.url, folder, models="unet", width="2") as running:
        wait_for_the_listing(running)
        model = save_constant_model(folder / "unet.safetensors", 2.5, stages=1)
        assert running.ask("PUT", "/model/unet", files={"file": model.read_bytes()}).ok
        yield running


@pytest.fixture(autouse=True)
def honest_again(pacs: MaliciousPacs) -> Iterator[None]:
    yield
    pacs.behaviours.clear()


def wait_for_the_listing(server: RunningServer) -> None:
    deadline = time.monotonic() + 60
    while server.json("/datastore/")["completed"] < 1:
        assert time.monotonic() < deadline, "the studies of the PACS are not listed"
        time.sleep(0.2)


def the_image(server: RunningServer) -> str:
    (image,) = server.json("/datastore/?output=all")["objects"]
    return str(image)


def check_refusal(server: RunningServer, answer: requests.Response) -> None:
    """A sentence, and a server that still answers."""
    assert answer.status_code in (400, 502), answer.text
    assert "answers 200" not in answer.text and len(answer.json()["detail"]) > 20
    began = time.monotonic()
    assert server.ask("GET", "/info/").status_code == 200
    assert time.monotonic() - began < INFO_WITHIN_S


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_is_answered(pacs: MaliciousPacs, server: RunningServer, refusal: Behaviour) -> None:
    """Of a search, of metadata, of an instance, of storing."""
    image = the_image(server)
    pacs.behaviours[Kind.SEARCH] = refusal
    check_refusal(server, server.ask("POST", "/reload"))
    pacs.behaviours.clear()
    pacs.behaviours[Kind.INSTANCE] = refusal
    check_refusal(server, server.infer("unet", image=image))
    pacs.behaviours.clear()


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_to_store_is_answered(pacs: MaliciousPacs, server: RunningServer, refusal: Behaviour) -> None:
    pacs.behaviours[Kind.STORE] = refusal
    check_refusal(server, server.infer("unet", image=the_image(server), params='{"store": true}'))


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_server_whose_pacs_gives_no_metadata(pacs: MaliciousPacs, tmp_path: Path, status: int) -> None:
    """Nothing is listed; /info/ and /reload answer, and SIGTERM ends the server."""
    pacs.behaviours[Kind.METADATA] = answers(status)
    with running_server("ct2pet_app", pacs.url, tmp_path, models="unet", width="2") as server:
        check_refusal(server, server.ask("POST", "/reload"))
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(STOPPED_WITHIN_S)
