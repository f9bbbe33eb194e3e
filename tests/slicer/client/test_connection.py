"""Connection test: a specific message for each reason why a server is not usable."""

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
from CT2PETLib import version
from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError, ServerUrlError
from CT2PETLib.client.http import connection
from CT2PETLib.client.http.transport import RetryPolicy

import lib
from tests.server.processes import free_port
from tests.slicer.client.conftest import Clinic
from tests.slicer.proxy import Proxy, proxy_before

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a self-signed certificate for 127.0.0.1 and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    signed = (
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
    path.write_bytes(plain + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_proxy(clinic: Clinic, certificate: Path) -> Iterator[Proxy]:
    """Run a proxy with TLS in front of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with proxy_before(clinic.server.url, tls=context) as running:
        yield running


@pytest.fixture
def other_server() -> Iterator[http.server.HTTPServer]:
    """Run another HTTP server; `.response` is its status, content type, body and further headers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content, headers = self.server.response  # type: ignore[attr-defined]
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Do not log."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def outcome(address: str, **options: object) -> tuple[str, str]:
    result = Client(address, **options).test_connection()  # type: ignore[arg-type]
    return result.kind, result.message


def test_usable_server(clinic: Clinic, client: Client) -> None:
    result = client.test_connection()
    assert (result.kind, result.is_usable) == ("ok", True)
    assert result.message.startswith("Connected to ct2pet 0.")
    assert " with a real PET; " in result.message
    assert "some functions may fail" not in result.message


@pytest.mark.parametrize(
    ("panel", "advice"),
    [
        ("0.0.9", "update the extension CT2PET in Slicer's Extensions Manager."),
        ("9.0.0", "ask the administrator to update the server."),
    ],
)
def test_server_of_another_version(client: Client, monkeypatch: pytest.MonkeyPatch, panel: str, advice: str) -> None:
    monkeypatch.setattr(version, "VERSION", panel)
    result = client.test_connection()
    assert (result.kind, result.is_usable) == ("ok", True)
    expected = f"The panel is version {panel}, the server {lib.__version__}, so some functions may fail: {advice}"
    assert expected in result.message


def test_panel_has_the_version_of_the_server() -> None:
    assert lib.__version__ == version.VERSION


def test_server_without_a_trained_model(clinic: Clinic) -> None:
    result = clinic.before_training
    assert (result.kind, result.is_usable) == ("untrained", True)
    assert "no model is trained yet (unet, cascade3, cascade2): train one" in result.message


def test_sign_in_required(clinic: Clinic) -> None:
    kind, message = outcome(clinic.server.url)
    assert (kind, "sign in" in message.lower()) == ("sign in", True)


def test_forbidden(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not accept this host name, as it listens on this machine only."""
    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **options: original("127.0.0.1", *more, **options))
    kind, message = outcome(clinic.server.url.replace("127.0.0.1", "pet.example"))
    assert (kind, "The server is not called pet.example" in message) == ("forbidden", True)


def test_connection_refused() -> None:
    kind, message = outcome(f"127.0.0.1:{free_port()}")
    assert (kind, "check that the server is running, and the port" in message) == ("unreachable", True)


def test_unknown_host() -> None:
    kind, message = outcome("http://no-such-machine.invalid:8000")
    assert (kind, "No host named no-such-machine.invalid" in message) == ("unreachable", True)


def test_read_timeout(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RESPONSE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT_S", 0.3)
    proxy.holding.set()
    kind, message = outcome(proxy.url)
    assert (kind, "did not respond in time" in message) == ("unreachable", True)


def test_connection_lost(proxy: Proxy) -> None:
    proxy.cuts = [10] * 5
    kind, message = outcome(proxy.url)
    assert (kind, "was lost" in message) == ("unreachable", True)


def test_network_proxy_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    kind, message = outcome("http://pet.example:8000")
    assert (kind, "proxy does not forward requests to pet.example" in message) == ("unreachable", True)


def test_network_proxy_is_not_used_for_this_machine(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert outcome(clinic.server.url)[0] == "sign in"


def test_https_to_an_http_server(clinic: Clinic) -> None:
    kind, message = outcome(clinic.server.url.replace("http:", "https:"))
    assert (kind, "begin the address with http://" in message) == ("tls", True)


def test_http_to_an_https_server(tls_proxy: Proxy) -> None:
    kind, message = outcome(tls_proxy.url.replace("https:", "http:"))
    assert (kind, "begin the address with https://" in message) == ("tls", True)


def test_untrusted_certificate(tls_proxy: Proxy) -> None:
    kind, message = outcome(tls_proxy.url)
    assert (kind, "is not trusted (self-signed certificate)" in message) == ("tls", True)


def test_given_certificate_is_trusted(tls_proxy: Proxy, certificate: Path) -> None:
    assert outcome(tls_proxy.url, verify=str(certificate))[0] == "sign in"


def test_verification_cannot_be_switched_off() -> None:
    with pytest.raises(ServerUrlError, match="cannot be switched off"):
        Client("https://pet.example", verify=False)


OTHERS = {
    "web page": ((200, "text/html", b"<html>hello</html>", {}), "with a web page, not as a ct2pet server"),
    "another program": ((200, "application/json", b'{"name": "x"}', {}), "is another program"),
    "another MONAI Label app": (
        (200, "application/json", json.dumps({"name": "Radiology", "models": {}, "trainers": {}}).encode(), {}),
        "MONAI Label app “Radiology”",
    ),
    "not found": ((404, "text/html", b"not found", {}), "not a ct2pet server"),
    "not found, in JSON": ((404, "application/json", b'{"detail": "Not Found"}', {}), "not a ct2pet server"),
    "redirect": (
        (301, "text/html", b"", {"Location": "https://pet.example/info/"}),
        "redirects to https://pet.example",
    ),
}


@pytest.mark.parametrize(("response", "expected"), OTHERS.values(), ids=OTHERS)
def test_other_server_is_not_ct2pet(other_server: http.server.HTTPServer, response: tuple, expected: str) -> None:
    other_server.response = response  # type: ignore[attr-defined]
    kind, message = outcome(f"127.0.0.1:{other_server.server_port}")
    assert (kind, expected in message) == ("not ct2pet", True), message


@pytest.mark.parametrize(
    ("status", "expected"), [(500, "internal error of the server"), (503, "is busy"), (502, "reverse proxy")]
)
def test_failing_server(other_server: http.server.HTTPServer, status: int, expected: str) -> None:
    other_server.response = (status, "text/plain", b"oh", {})  # type: ignore[attr-defined]
    kind, message = outcome(f"127.0.0.1:{other_server.server_port}")
    assert kind in ("failed", "unreachable")
    assert expected in message.lower()


def test_busy_server_is_retried_after_its_retry_after(other_server: http.server.HTTPServer) -> None:
    other_server.response = (503, "application/json", b'{"detail": "eight wait"}', {"Retry-After": "2"})  # type: ignore[attr-defined]
    waits: list[float] = []

    def waiting(error: ServerError, retry_in_s: float) -> None:
        waits.append(retry_in_s)
        other_server.response = (200, "application/json", b'{"status": "DONE"}', {})  # type: ignore[attr-defined]

    Client(f"127.0.0.1:{other_server.server_port}").training(retry_policy=RetryPolicy(3.0), waiting=waiting)
    assert waits == [2.0]
