"""The real server on a misbehaving PACS: errors have a sentence, /info/ responds, memory is bounded, SIGTERM works.

All tests share one server; it starts and ends while responses of the PACS drip.
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
from tests.process_memory import peak_kib
from tests.server.malicious_pacs import JSON, MULTIPART, Behaviour, Kind, MaliciousPacs, malicious_pacs
from tests.server.pacs_misbehaviour import drips, gzip_bomb, redirects, responds
from tests.server.processes import RunningServer, running_server

pytestmark = pytest.mark.server

INFO_TIMEOUT_S = 0.5
STOPPED_TIMEOUT_S = 20.0
BOMB_BYTES, INSTANCE_BOMB_BYTES = 10**9, 1_200_000_000
MAX_GROWTH_BYTES = 3 * 10**8
PART = b"--B\r\nContent-Type: application/dicom\r\n\r\n"

REFUSALS: dict[str, Behaviour] = {
    **{str(status): responds(status) for status in (400, 401, 403, 404, 410, 500)},
    "redirect": redirects(),
    "a web page": responds(200, b"<html>log in</html>", Content_Type="text/html"),
    "nothing": responds(200),
}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MaliciousPacs]:
    """A PACS with one patient; its search responses drip initially."""
    (folder,) = write_phantoms(tmp_path_factory.mktemp("studies"), patients=1, settings=TINY)
    with malicious_pacs(folder) as running:
        running.behaviours[Kind.SEARCH] = drips()
        yield running


@pytest.fixture(scope="module")
def server(pacs: MaliciousPacs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on that PACS, with a model."""
    folder = tmp_path_factory.mktemp("server")
    with running_server("ct2pet_app", pacs.url, folder, models="unet", width="2") as running:
        model = save_constant_model(folder / "unet.safetensors", 2.5, stages=1)
        assert running.request("PUT", "/model/unet", files={"file": model.read_bytes()}).ok
        yield running


@pytest.fixture(autouse=True)
def reset_pacs(pacs: MaliciousPacs, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not request.node.name.startswith("test_at_startup"):
        pacs.behaviours.clear()


def listed(server: RunningServer) -> str:
    """Wait until the only image is listed and return its id."""
    deadline = time.monotonic() + 120
    while server.json("/datastore/")["completed"] < 1:
        assert time.monotonic() < deadline, "the studies of the PACS are not listed"
        time.sleep(0.2)
    (image,) = server.json("/datastore/?output=all")["objects"]
    return str(image)


def check_info(server: RunningServer) -> None:
    began = time.monotonic()
    assert server.request("GET", "/info/").status_code == 200
    assert time.monotonic() - began < INFO_TIMEOUT_S


def check_refusal(server: RunningServer, response: requests.Response) -> None:
    """Check that a response is an error with a sentence, and that the server still responds."""
    assert response.status_code in (400, 502), response.text
    assert len(response.json()["detail"]) > 20
    check_info(server)


def peak_bytes(server: RunningServer) -> int:
    return 1024 * peak_kib(server.process.pid)


def test_at_startup_no_request_waits_for_a_dripping_pacs(pacs: MaliciousPacs, server: RunningServer) -> None:
    for _ in range(5):
        check_info(server)
    datastore = server.json("/info/")["datastore"]
    assert (datastore["total"], datastore["completed"]) == (0, 0)
    assert "has not listed its series yet" in datastore["incomplete"]
    response = server.request("GET", "/ct2pet/series")
    assert response.status_code == 503 and "try again in a moment" in response.json()["detail"]


def test_metadata_that_fails_is_reported(pacs: MaliciousPacs, server: RunningServer) -> None:
    """No series is listed yet, and the metadata of each fails."""
    pacs.end_open_responses()
    pacs.behaviours[Kind.SEARCH] = responds(503)
    for status in (400, 401, 500):
        pacs.behaviours[Kind.METADATA] = responds(status)
        del pacs.behaviours[Kind.SEARCH]
        deadline = time.monotonic() + 30
        while (response := server.request("POST", "/reload")).status_code == 502 and str(status) not in response.text:
            assert time.monotonic() < deadline, response.text  # the scan in progress ends first
        check_refusal(server, response)
        assert str(status) in server.json("/info/")["datastore"]["incomplete"]
        pacs.behaviours[Kind.SEARCH] = responds(503)


def test_a_recovered_pacs_is_listed(pacs: MaliciousPacs, server: RunningServer) -> None:
    assert server.request("POST", "/reload").ok
    assert listed(server)
    assert "incomplete" not in server.json("/datastore/")


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_is_reported(pacs: MaliciousPacs, server: RunningServer, refusal: Behaviour) -> None:
    """Refusals of an instance, for a thumbnail and for a synthesis, and of a search."""
    image = listed(server)
    assert server.request("POST", "/reload").ok  # no thumbnails while the last search failed
    pacs.behaviours[Kind.INSTANCE] = refusal
    check_refusal(server, server.request("GET", f"/ct2pet/images/thumbnail?image={image}"))
    check_refusal(server, server.infer("unet", image=image))
    del pacs.behaviours[Kind.INSTANCE]
    pacs.behaviours[Kind.SEARCH] = refusal
    if refusal is not REFUSALS["nothing"]:  # a valid response without series
        check_refusal(server, server.request("POST", "/reload"))


def test_an_inference_still_works(pacs: MaliciousPacs, server: RunningServer) -> None:
    assert server.infer("unet", image=listed(server), params='{"store": true}').ok
    assert len([row for row in pacs.rows() if row["00080060"]["Value"] == ["PT"]]) == 2


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_to_store_is_reported(pacs: MaliciousPacs, server: RunningServer, refusal: Behaviour) -> None:
    image = listed(server)
    pacs.behaviours[Kind.STORE] = refusal
    check_refusal(server, server.infer("unet", image=image, params='{"store": true}'))


@pytest.mark.parametrize("kind", [Kind.SEARCH, Kind.STORE])
def test_a_gzip_bomb_uses_no_memory(pacs: MaliciousPacs, server: RunningServer, kind: Kind) -> None:
    image = listed(server)
    before = peak_bytes(server)
    pacs.behaviours[kind] = gzip_bomb(BOMB_BYTES)
    if kind is Kind.SEARCH:
        check_refusal(server, server.request("POST", "/reload"))
    else:
        check_refusal(server, server.infer("unet", image=image, params='{"store": true}'))
    assert peak_bytes(server) - before < MAX_GROWTH_BYTES


def test_a_gzip_bomb_in_new_metadata_hides_only_the_new_series(
    pacs: MaliciousPacs, server: RunningServer, tmp_path: Path
) -> None:
    """Listed series stay; the new series are reported and listed later. Then their instances are gzip bombs."""
    listed(server)
    assert server.request("POST", "/reload").ok  # lists what earlier tests have stored
    before = peak_bytes(server)
    folder = write_phantoms(tmp_path, patients=2, settings=TINY)[1]
    pacs.behaviours[Kind.METADATA] = gzip_bomb(BOMB_BYTES)  # set before adding: the server also scans by itself
    pacs.behaviours[Kind.INSTANCE] = gzip_bomb(INSTANCE_BOMB_BYTES, MULTIPART, PART)
    for path in sorted(folder.rglob("*.dcm")):
        pacs.add(path.read_bytes())
    assert server.request("POST", "/reload").ok
    datastore = server.json("/datastore/")
    assert datastore["completed"] == 1 and "2 series are not listed" in datastore["incomplete"]
    del pacs.behaviours[Kind.METADATA]
    assert server.request("POST", "/reload").ok
    (new,) = set(server.json("/datastore/?output=all")["objects"]) - {first_ct(pacs)}
    check_refusal(server, server.infer("unet", image=new))
    assert peak_bytes(server) - before < MAX_GROWTH_BYTES


def first_ct(pacs: MaliciousPacs) -> str:
    return str(next(row for row in pacs.rows() if row["00080060"]["Value"] == ["CT"])["0020000E"]["Value"][0])


def test_sigterm_stops_a_server_whose_pacs_drips(pacs: MaliciousPacs, server: RunningServer) -> None:
    for kind in (Kind.SEARCH, Kind.METADATA):
        pacs.behaviours[kind] = drips(JSON)
    with contextlib.suppress(requests.Timeout):  # a client that disconnects
        requests.post(f"{server.url}/reload", timeout=1)
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(STOPPED_TIMEOUT_S)
    assert server.process.poll() is not None
