"""The edges of the running server: bodies, headers, connections, what a response and the log may hold.

One server with accounts on two phantoms.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.server.processes import RunningServer, running_server, write_users

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
MB = 10**6
SECRET = "Doe^Jane"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    studies, folder = tmp_path_factory.mktemp("studies"), tmp_path_factory.mktemp("server")
    write_phantoms(studies, patients=2, settings=SMALL)
    users = write_users(tmp_path_factory.mktemp("users"))
    with running_server("ct2pet_app", studies, folder, models="unet", users=users) as running:
        yield running


def peak_mb(server: RunningServer) -> float:
    """Return the largest memory that the server's processes have had so far."""
    process = psutil.Process(server.process.pid)
    statuses = [Path(f"/proc/{one.pid}/status").read_text() for one in (process, *process.children(recursive=True))]
    return max(float(found[1]) / 1e3 for text in statuses if (found := re.search(r"VmHWM:\s+(\d+)", text)))


def test_a_thousand_files_of_a_session_are_not_kept_in_memory(server: RunningServer) -> None:
    una, before_mb = server.logged_in_as("una"), peak_mb(server)
    files = [("files", (f"{SECRET}-{number}.dcm", b"x" * 400_000)) for number in range(600)]
    answer = una.ask("PUT", "/session/", files=files)
    assert answer.status_code == 400, answer.text[:300]
    assert peak_mb(server) < before_mb + 100  # each file was kept in memory up to a megabyte: 240 MB


def fields(count: int) -> Iterator[bytes]:
    """Yield a form of fields of a megabyte."""
    for number in range(count):
        yield b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n' % number + b"x" * (MB - 100) + b"\r\n"
    yield b"--b--\r\n"


BIG_BODIES = [
    ("", "POST", "/train/unet", 401),
    ("una", "POST", "/train/unet", 403),
    ("una", "PUT", "/model/unet", 403),
    ("una", "PUT", "/datastore/image", 403),
    ("ada", "POST", "/train/unet", 413),
    ("ada", "POST", "/activelearning/first", 413),
    ("ada", "PUT", "/datastore/image/info?image=x", 413),
    ("una", "POST", "/infer/unet", 400),
]


def test_600_mb_where_they_are_not_taken_cost_no_memory(server: RunningServer) -> None:
    tokens = {name: server.logged_in_as(name) if name else server for name, *_ in BIG_BODIES}
    before_mb = peak_mb(server)
    announced = b"".join(fields(600))
    for name, method, path, status in BIG_BODIES:
        for body in (announced, fields(600)):  # with Content-Length, and in chunks
            answer = tokens[name].ask(method, path, data=body, headers=MULTIPART)
            assert answer.status_code == status, f"{method} {path}: {answer.text[:300]}"
            assert answer.json()["detail"]
    assert peak_mb(server) < before_mb + 100  # 1,180 MB before roles and limits came first


def raw(server: RunningServer, request: bytes) -> bytes:
    """Return what the server sends on one connection until it closes it."""
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /info/ HTTP/1.1\r\nHost: [::1\r\n", 400),
        (b"GET /info/ HTTP/1.1\r\nHost: \xe9\xff\r\n", 400),
        (b"GET /info/ HTTP/1.1\r\nHost: user@127.0.0.1\r\n", 400),
        (b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1:http\r\n", 400),
        (b"GET /info/ HTTP/1.1\r\nHost: evil.example\r\n", 403),
        (b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://[::1\r\n", 403),
        (b"GET http://127.0.0.1/info/ HTTP/1.1\r\nHost: 127.0.0.1\r\n", 400),
        (b"GET /info/ HTTP/1.0\r\n", 400),
        (b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 50_000 + b"\r\n", 431),
        (b"POST /auth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n", 415),
    ],
)
def test_malformed_heads_get_a_json_sentence(server: RunningServer, head: bytes, status: int) -> None:
    answer = raw(server, head + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b'\r\n\r\n{"detail":"' in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /info/ HTTP/1.1\r\n",  # no Host
        b"GET /info/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"POST /info/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
    ],
)
def test_what_is_no_http_is_a_bad_request(server: RunningServer, head: bytes) -> None:
    assert raw(server, head + b"\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_body_is_not_asked_for_before_the_role_is_known(server: RunningServer) -> None:
    """`Expect: 100-continue`: a client that waits for the server's word never sends the body."""
    head = b"PUT /model/unet HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 600000000\r\n"
    token = server.logged_in_as("una").token.encode()
    answer = raw(server, head + b"Authorization: Bearer " + token + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_slow_uploads_hold_no_thread(server: RunningServer) -> None:
    """More uploads than the server has threads, each stopped in the middle: others are answered as before."""
    una = server.logged_in_as("una")
    port = int(server.url.rpartition(":")[2])
    head = (
        f"POST /infer/unet HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {una.token}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b\r\n"
    )
    connections = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(100)]
    for connection in connections:
        connection.sendall(head.encode())
    for _ in range(3):
        assert una.ask("GET", "/datastore/").status_code == 200
    for connection in connections:
        connection.close()


def test_the_log_holds_no_name_of_an_upload(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    for name in (f"{SECRET}.nrrd", f"{SECRET}.zip", f"{SECRET}.nii.gz", f"{SECRET}\n.dcm", f"x/{SECRET}"):
        for method, path, field in (
            ("POST", "/infer/unet", "file"),
            ("PUT", "/datastore/image", "file"),
            ("PUT", "/session/", "files"),
            ("PUT", "/model/unet", "file"),
            ("POST", "/ct2pet/pairs", "ct"),
        ):
            answer = ada.ask(method, path, files={field: (name, b"junk")})
            assert 400 <= answer.status_code < 500, answer.text
    log = server.log.read_text()
    assert SECRET not in log and "Traceback" not in log


def test_no_response_holds_a_path_of_the_server(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    answers = [ada.ask("GET", path) for path in ("/info/", "/datastore/?output=all", "/datastore/?output=train")]
    image = answers[2].json()[0]["image"]
    volume = ada.ask("GET", f"/datastore/image?image={image}")
    name = volume.headers["Content-Disposition"].rpartition("filename=")[2].strip('"')
    answers.append(ada.ask("PUT", "/session/", files={"files": (name, volume.content)}))
    assert answers[3].status_code == 200, answers[3].text
    assert answers[3].json()["session_info"]["image"] == Path(answers[3].json()["session_info"]["image"]).name
    answers.append(ada.ask("GET", f"/session/{answers[3].json()['session_id']}"))
    answers.append(ada.ask("PUT", "/model/unet", files={"file": ("m", b"junk")}))
    for answer in answers:
        assert not re.search(r'[" ]/(tmp|work|home|root|usr|srv)\b', answer.text), answer.text[:500]
        assert str(server.models) not in answer.text


def test_pages_load_and_run_nothing(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    for path in ("/", "/docs", "/redoc"):
        answer = ada.ask("GET", path)
        assert answer.status_code == 200
        assert not re.search(r"<script|<link|<img|<iframe|src=|https?://", answer.text)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert server.ask("GET", path).status_code == 401


def test_every_response_has_the_headers_that_keep_browsers_strict(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    for asked, path in ((server, "/info/"), (ada, "/info/"), (ada, "/none"), (ada, "/"), (ada, "/favicon.ico")):
        headers = asked.ask("GET", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert not re.search(r"\d", headers.get("Server", ""))


def test_a_wrong_method_is_told_all_that_are_right(server: RunningServer) -> None:
    answer = server.logged_in_as("ada").ask("PATCH", "/datastore/image")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE, GET, HEAD, PUT")


@pytest.mark.parametrize("body", [b'{"client_id": NaN}', b'{"client_id": "\\ud800"}', b'{"a": 1e999}', b'"\\u0000"'])
def test_json_that_cannot_be_stored_is_refused(server: RunningServer, body: bytes) -> None:
    una = server.logged_in_as("una")
    answer = una.ask("POST", "/activelearning/first", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert una.ask("GET", "/datastore/?output=all").status_code == 200
