"""Limits of the running server: bodies, headers, connections, the content of responses and logs.

One server with accounts on two phantoms.
"""

from __future__ import annotations

import json
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
    """Return the largest resident memory of the server's processes so far, MB."""
    process = psutil.Process(server.process.pid)
    statuses = [Path(f"/proc/{one.pid}/status").read_text() for one in (process, *process.children(recursive=True))]
    return max(float(found[1]) / 1e3 for text in statuses if (found := re.search(r"VmHWM:\s+(\d+)", text)))


def test_a_thousand_files_of_a_session_are_not_kept_in_memory(server: RunningServer) -> None:
    una, before_mb = server.logged_in_as("una"), peak_mb(server)
    files = [("files", (f"{SECRET}-{number}.dcm", b"x" * 400_000)) for number in range(600)]
    response = una.request("PUT", "/session/", files=files)
    assert response.status_code == 400, response.text[:300]
    assert peak_mb(server) < before_mb + 100  # 240 MB if each file is kept in memory


def fields(count: int) -> Iterator[bytes]:
    """Yield the body of a form with `count` fields of a megabyte."""
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


def test_a_refused_body_of_600_mb_uses_no_memory(server: RunningServer) -> None:
    tokens = {name: server.logged_in_as(name) if name else server for name, *_ in BIG_BODIES}
    before_mb = peak_mb(server)
    announced = b"".join(fields(600))
    for name, method, path, status in BIG_BODIES:
        for body in (announced, fields(600)):  # with Content-Length, and in chunks
            response = tokens[name].request(method, path, data=body, headers=MULTIPART)
            assert response.status_code == status, f"{method} {path}: {response.text[:300]}"
            assert response.json()["detail"]
    assert peak_mb(server) < before_mb + 100  # 1,180 MB if the body is read before role and limits are checked


def raw(server: RunningServer, request: bytes) -> bytes:
    """Return all bytes that the server sends until it closes the connection."""
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
def test_malformed_headers_get_a_json_error(server: RunningServer, head: bytes, status: int) -> None:
    response = raw(server, head + b"Connection: close\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 %d " % status), response
    assert isinstance(json.loads(response.partition(b"\r\n\r\n")[2])["detail"], str)


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


def test_a_body_is_not_requested_before_the_role_is_checked(server: RunningServer) -> None:
    """With `Expect: 100-continue`, a client that waits for the interim response never sends the body."""
    head = b"PUT /model/unet HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 600000000\r\n"
    token = server.logged_in_as("una").token.encode()
    response = raw(server, head + b"Authorization: Bearer " + token + b"\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 403 ")


def test_stalled_uploads_block_no_thread(server: RunningServer) -> None:
    """More stalled uploads than the server has threads do not delay other requests."""
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
        assert una.request("GET", "/datastore/").status_code == 200
    for connection in connections:
        connection.close()


def test_the_log_contains_no_file_name_of_an_upload(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    for name in (f"{SECRET}.nrrd", f"{SECRET}.zip", f"{SECRET}.nii.gz", f"{SECRET}\n.dcm", f"x/{SECRET}"):
        for method, path, field in (
            ("POST", "/infer/unet", "file"),
            ("PUT", "/datastore/image", "file"),
            ("PUT", "/session/", "files"),
            ("PUT", "/model/unet", "file"),
            ("POST", "/ct2pet/pairs", "ct"),
        ):
            response = ada.request(method, path, files={field: (name, b"junk")})
            assert 400 <= response.status_code < 500, response.text
    log = server.log.read_text()
    assert SECRET not in log and "Traceback" not in log


def test_no_response_contains_a_server_path(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    responses = [ada.request("GET", path) for path in ("/info/", "/datastore/?output=all", "/datastore/?output=train")]
    image = responses[2].json()[0]["image"]
    volume = ada.request("GET", f"/datastore/image?image={image}")
    name = volume.headers["Content-Disposition"].rpartition("filename=")[2].strip('"')
    responses.append(ada.request("PUT", "/session/", files={"files": (name, volume.content)}))
    assert responses[3].status_code == 200, responses[3].text
    assert responses[3].json()["session_info"]["image"] == Path(responses[3].json()["session_info"]["image"]).name
    responses.append(ada.request("GET", f"/session/{responses[3].json()['session_id']}"))
    responses.append(ada.request("PUT", "/model/unet", files={"file": ("m", b"junk")}))
    for response in responses:
        assert not re.search(r'[" ]/(tmp|work|home|root|usr|srv)\b', response.text), response.text[:500]
        assert str(server.models) not in response.text


def test_pages_load_no_resource_and_run_no_script(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    for path in ("/", "/docs", "/redoc"):
        response = ada.request("GET", path)
        assert response.status_code == 200
        assert not re.search(r"<script|<link|<img|<iframe|src=|https?://", response.text)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert server.request("GET", path).status_code == (200 if path == "/" else 401)


def test_the_start_page_needs_no_token_and_tells_nothing_of_the_server(server: RunningServer) -> None:
    response = server.request("GET", "/")
    assert response.text == server.logged_in_as("ada").request("GET", "/").text
    assert server.request("HEAD", "/").status_code == 200
    assert server.request("POST", "/").status_code == 401
    links = re.findall(r'href="([^"]*)"', response.text)
    assert links == ["ct2pet/viewer/", "ct2pet/viewer/#/api", "docs", "openapi.json"]
    assert server.request("GET", f"/{links[0]}").status_code == 200  # the login form
    assert "unet" not in response.text and "/infer/" not in response.text
    assert not re.search(r"\d+\.\d+", response.text.partition("<body>")[2])  # no version


def test_every_response_has_security_headers(server: RunningServer) -> None:
    ada = server.logged_in_as("ada")
    for client, path in ((server, "/info/"), (ada, "/info/"), (ada, "/none"), (ada, "/"), (ada, "/favicon.ico")):
        headers = client.request("GET", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert not re.search(r"\d", headers.get("Server", ""))


def test_the_response_to_a_wrong_method_lists_the_allowed_methods(server: RunningServer) -> None:
    response = server.logged_in_as("ada").request("PATCH", "/datastore/image")
    assert (response.status_code, response.headers["Allow"]) == (405, "DELETE, GET, HEAD, PUT")


@pytest.mark.parametrize("body", [b'{"client_id": NaN}', b'{"client_id": "\\ud800"}', b'{"a": 1e999}', b'"\\u0000"'])
def test_json_that_cannot_be_stored_is_refused(server: RunningServer, body: bytes) -> None:
    una = server.logged_in_as("una")
    response = una.request("POST", "/activelearning/first", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert una.request("GET", "/datastore/?output=all").status_code == 200
