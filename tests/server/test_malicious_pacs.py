"""The real server on a PACS that lies: every answer is a sentence, /info/ goes on, memory stays, SIGTERM ends it.

One server for all: it starts while the PACS drips, and ends while it drips.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.tiny_studies import TINY
from tests.server.malicious_pacs import (
    JSON,
    MULTIPART,
    Behaviour,
    Kind,
    MaliciousPacs,
    answers,
    drips,
    gzip_bomb,
    malicious_pacs,
    redirects,
)
from tests.server.processes import RunningServer, running_server

pytestmark = pytest.mark.server

INFO_TIMEOUT_S = 0.5
STOPPED_TIMEOUT_S = 20.0
BOMB_BYTES, INSTANCE_BOMB_BYTES = 10**9, 1_200_000_000
MAX_GROWTH_BYTES = 3 * 10**8
PART = b"--B\r\nContent-Type: application/dicom\r\n\r\n"

REFUSALS: dict[str, Behaviour] = {
    **{str(status): answers(status) for status in (400, 401, 403, 404, 410, 500)},
    "redirect": redirects(),
    "a web page": answers(200, b"<html>log in</html>", Content_Type="text/html"),
    "nothing": answers(200),
}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaliciousPacs]:
    """A PACS with one patient, which at first drips."""
    (folder,) = write_phantoms(tmp_path_factory.mktemp("studies"), patients=1, settings=TINY)
    with malicious_pacs(folder) as running:
        running.behaviours[Kind.SEARCH] = drips()
        yield running


@pytest.fixture(scope="module")
def server(pacs: MaliciousPacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on it, with a model."""
    folder = tmp_path_factory.mktemp("server")
    with running_server("ct2pet_app", pacs.url, folder, models="unet", width="2") as running:
        model = save_constant_model(folder / "unet.safetensors", 2.5, stages=1)
        assert running.ask("PUT", "/model/unet", files={"file": model.read_bytes()}).ok
        yield running


@pytest.fixture(autouse=True)
def honest_again(pacs: MaliciousPacs, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not request.node.name.startswith("test_at_first_contact"):
        pacs.behaviours.clear()


def listed(server: RunningServer) -> str:
    """Return the only image, once it is listed."""
    deadline = time.monotonic() + 120
    while server.json("/datastore/")["completed"] < 1:
        assert time.monotonic() < deadline, "the studies of the PACS are not listed"
        time.sleep(0.2)
    (image,) = server.json("/datastore/?output=all")["objects"]
    return str(image)


def check_info(server: RunningServer) -> None:
    began = time.monotonic()
    assert server.ask("GET", "/info/").status_code == 200
    assert time.monotonic() - began < INFO_TIMEOUT_S


def check_refusal(server: RunningServer, answer: requests.Response) -> None:
    """A sentence, and a server that still answers."""
    assert answer.status_code in (400, 502), answer.text
    assert len(answer.json()["detail"]) > 20
    check_info(server)


def peak_bytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_at_first_contact_nobody_waits_for_a_pacs_that_drips(pacs: MaliciousPacs, server: RunningServer) -> None:
    for _ in range(5):
        check_info(server)
    told = server.json("/info/")["datastore"]
    assert (told["total"], told["completed"]) == (0, 0)
    assert "has not listed its series yet" in told["incomplete"]
    answer = server.ask("GET", "/ct2pet/series")
    assert answer.status_code == 503 and "ask again in a moment" in answer.json()["detail"]


def test_no_metadata(pacs: MaliciousPacs, server: RunningServer) -> None:
    """Nothing is listed yet: each series fails."""
    pacs.end_open_responses()
    pacs.behaviours[Kind.SEARCH] = answers(503)
    for status in (400, 401, 500):
        pacs.behaviours[Kind.METADATA] = answers(status)
        del pacs.behaviours[Kind.SEARCH]
        deadline = time.monotonic() + 30
        while (answer := server.ask("POST", "/reload")).status_code == 502 and str(status) not in answer.text:
            assert time.monotonic() < deadline, answer.text  # the look that was under way ends first
        check_refusal(server, answer)
        assert str(status) in server.json("/info/")["datastore"]["incomplete"]
        pacs.behaviours[Kind.SEARCH] = answers(503)


def test_then_it_is_listed(pacs: MaliciousPacs, server: RunningServer) -> None:
    assert server.ask("POST", "/reload").ok
    assert listed(server)
    assert "incomplete" not in server.json("/datastore/")


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_is_answered(pacs: MaliciousPacs, server: RunningServer, refusal: Behaviour) -> None:
    """Of a search, of an instance, of storing."""
    image = listed(server)
    pacs.behaviours[Kind.INSTANCE] = refusal
    check_refusal(server, server.infer("unet", image=image))
    del pacs.behaviours[Kind.INSTANCE]
    pacs.behaviours[Kind.SEARCH] = refusal
    if refusal is not REFUSALS["nothing"]:  # which is an empty list
        check_refusal(server, server.ask("POST", "/reload"))


def test_an_inference_works_between(pacs: MaliciousPacs, server: RunningServer) -> None:
    assert server.infer("unet", image=listed(server), params='{"store": true}').ok
    assert len([row for row in pacs.rows() if row["00080060"]["Value"] == ["PT"]]) == 2


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_to_store_is_answered(pacs: MaliciousPacs, server: RunningServer, refusal: Behaviour) -> None:
    image = listed(server)
    pacs.behaviours[Kind.STORE] = refusal
    check_refusal(server, server.infer("unet", image=image, params='{"store": true}'))


@pytest.mark.parametrize("kind", [Kind.SEARCH, Kind.STORE])
def test_a_gzip_bomb_costs_no_memory(pacs: MaliciousPacs, server: RunningServer, kind: Kind) -> None:
    image = listed(server)
    before = peak_bytes(server)
    pacs.behaviours[kind] = gzip_bomb(BOMB_BYTES)
    if kind is Kind.SEARCH:
        check_refusal(server, server.ask("POST", "/reload"))
    else:
        check_refusal(server, server.infer("unet", image=image, params='{"store": true}'))
    assert peak_bytes(server) - before < MAX_GROWTH_BYTES


def test_a_bomb_among_new_metadata(pacs: MaliciousPacs, server: RunningServer, tmp_path: Path) -> None:
    """What was listed before stays; the new series is named, and comes later. Then its instances are bombs."""
    listed(server)
    assert server.ask("POST", "/reload").ok  # what another test has stored is not new
    before = peak_bytes(server)
    folder = write_phantoms(tmp_path, patients=2, settings=TINY)[1]
    pacs.behaviours[Kind.METADATA] = gzip_bomb(BOMB_BYTES)  # first: the server looks by itself, too
    pacs.behaviours[Kind.INSTANCE] = gzip_bomb(INSTANCE_BOMB_BYTES, MULTIPART, PART)
    for path in sorted(folder.rglob("*.dcm")):
        pacs.add(path.read_bytes())
    assert server.ask("POST", "/reload").ok
    told = server.json("/datastore/")
    assert told["completed"] == 1 and "2 series are not listed" in told["incomplete"]
    del pacs.behaviours[Kind.METADATA]
    assert server.ask("POST", "/reload").ok
    (new,) = set(server.json("/datastore/?output=all")["objects"]) - {listed_before(pacs)}
    check_refusal(server, server.infer("unet", image=new))
    assert peak_bytes(server) - before < MAX_GROWTH_BYTES


def listed_before(pacs: MaliciousPacs) -> str:
    return str(next(row for row in pacs.rows() if row["00080060"]["Value"] == ["CT"])["0020000E"]["Value"][0])


def test_a_server_whose_pacs_drips_ends_by_sigterm(pacs: MaliciousPacs, server: RunningServer) -> None:
    for kind in (Kind.SEARCH, Kind.METADATA):
        pacs.behaviours[kind] = drips(JSON)
    with contextlib.suppress(requests.Timeout):  # a client that goes away
        requests.post(f"{server.url}/reload", timeout=1)
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(STOPPED_TIMEOUT_S)
