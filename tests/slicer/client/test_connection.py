"""What "Test connection" says: a different sentence for each way an address may not lead to a server."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from CT2PETLib.client import connection
from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError, ServerUrlError
from CT2PETLib.client.transport import RetryPolicy

from tests.server.processes import free_port
from tests.slicer.client.conftest import Clinic
from tests.slicer.proxy import Proxy, proxy_before

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, and its key, in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(plain + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_proxy(clinic: Clinic, certificate: Path) -> Iterator[Proxy]:
    """The server behind a proxy that speaks https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with proxy_before(clinic.server.url, tls=context) as made:
        yield made


@pytest.fixture
def answering() -> Iterator[http.server.HTTPServer]:
    """A program that is no ct2pet server: `.answer` is its status, content type, content and further headers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content, headers = self.server.answer  # type: ignore[attr-defined]
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def said(address: str, **options: object) -> tuple[str, str]:
    told = Client(address, **options).test_connection()  # type: ignore[arg-type]
    return told.kind, told.sentence


def test_a_server_that_can_be_used(clinic: Clinic, client: Client) -> None:
    told = client.test_connection()
    assert (told.kind, told.is_usable) == ("ok", True)
    assert told.sentence.startswith("Connected to ct2pet 0.")
    assert " with a real PET; " in told.sentence


def test_a_server_without_a_trained_model(clinic: Clinic) -> None:
    told = clinic.before_training
    assert (told.kind, told.is_usable) == ("untrained", True)
    assert "no model is trained yet (unet, cascade3, cascade2): train one" in told.sentence


def test_who_has_not_signed_in_is_asked_to(clinic: Clinic) -> None:
    kind, sentence = said(clinic.server.url)
    assert (kind, "sign in" in sentence.lower()) == ("sign in", True)


def test_who_may_not_ask_is_told_so(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a name that the server does not answer to: it listens on this machine only."""
    known = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **words: known("127.0.0.1", *more, **words))
    kind, sentence = said(clinic.server.url.replace("127.0.0.1", "pet.example"))
    assert (kind, "this server is not called pet.example" in sentence) == ("forbidden", True)


def test_nobody_listens() -> None:
    kind, sentence = said(f"127.0.0.1:{free_port()}")
    assert (kind, "is the server started, and the port right?" in sentence) == ("unreachable", True)


def test_a_name_that_nobody_knows() -> None:
    kind, sentence = said("http://no-such-machine.invalid:8000")
    assert (kind, "No machine called no-such-machine.invalid" in sentence) == ("unreachable", True)


def test_a_server_that_does_not_answer(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT_S", 0.3)
    proxy.holding.set()
    kind, sentence = said(proxy.url)
    assert (kind, "did not answer in time" in sentence) == ("unreachable", True)


def test_a_server_that_hangs_up(proxy: Proxy) -> None:
    proxy.cuts = [10] * 5
    kind, sentence = said(proxy.url)
    assert (kind, "was lost" in sentence) == ("unreachable", True)


def test_a_proxy_of_the_network_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    kind, sentence = said("http://pet.example:8000")
    assert (kind, "proxy does not let requests through to pet.example" in sentence) == ("unreachable", True)


def test_a_server_on_this_machine_is_not_looked_for_behind_a_proxy(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert said(clinic.server.url)[0] == "sign in"


def test_https_where_http_is_spoken(clinic: Clinic) -> None:
    kind, sentence = said(clinic.server.url.replace("http:", "https:"))
    assert (kind, "does the address begin with http://" in sentence) == ("tls", True)


def test_http_where_https_is_spoken(tls_proxy: Proxy) -> None:
    kind, sentence = said(tls_proxy.url.replace("https:", "http:"))
    assert (kind, "begin the address with https://" in sentence) == ("tls", True)


def test_a_certificate_that_cannot_be_trusted(tls_proxy: Proxy) -> None:
    kind, sentence = said(tls_proxy.url)
    assert (kind, "cannot be trusted (self-signed certificate)" in sentence) == ("tls", True)


def test_a_certificate_that_was_chosen_is_trusted(tls_proxy: Proxy, certificate: Path) -> None:
    assert said(tls_proxy.url, verify=str(certificate))[0] == "sign in"


def test_nobody_can_ask_for_no_verification() -> None:
    with pytest.raises(ServerUrlError, match="could be anybody's"):
        Client("https://pet.example", verify=False)


OTHERS = {
    "a page": ((200, "text/html", b"<html>hello</html>", {}), "with a page, not as a ct2pet server"),
    "another program": ((200, "application/json", b'{"name": "x"}', {}), "is another program"),
    "another MONAI Label app": (
        (200, "application/json", json.dumps({"name": "Radiology", "models": {}, "trainers": {}}).encode(), {}),
        "MONAI Label app “Radiology”",
    ),
    "nothing there": ((404, "text/html", b"not found", {}), "no ct2pet server"),
    "nothing there, in JSON": ((404, "application/json", b'{"detail": "Not Found"}', {}), "no ct2pet server"),
    "sent on": ((301, "text/html", b"", {"Location": "https://pet.example/info/"}), "sends on to https://pet.example"),
}


@pytest.mark.parametrize(("answer", "words"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_ct2pet_server(answering: http.server.HTTPServer, answer: tuple, words: str) -> None:
    answering.answer = answer  # type: ignore[attr-defined]
    kind, sentence = said(f"127.0.0.1:{answering.server_port}")
    assert (kind, words in sentence) == ("not ct2pet", True), sentence


@pytest.mark.parametrize(("status", "words"), [(500, "the server failed"), (503, "as much to do"), (502, "behind it")])
def test_a_server_in_trouble(answering: http.server.HTTPServer, status: int, words: str) -> None:
    answering.answer = (status, "text/plain", b"oh", {})  # type: ignore[attr-defined]
    kind, sentence = said(f"127.0.0.1:{answering.server_port}")
    assert kind in ("failed", "unreachable")
    assert words in sentence.lower()


def test_a_busy_server_is_asked_again_when_it_says(answering: http.server.HTTPServer) -> None:
    answering.answer = (503, "application/json", b'{"detail": "eight wait"}', {"Retry-After": "2"})  # type: ignore[attr-defined]
    waits: list[float] = []

    def waiting(error: ServerError, retry_in_s: float) -> None:
        waits.append(retry_in_s)
        answering.answer = (200, "application/json", b'{"status": "DONE"}', {})  # type: ignore[attr-defined]

    Client(f"127.0.0.1:{answering.server_port}").training(retry_policy=RetryPolicy(3.0), waiting=waiting)
    assert waits == [2.0]
