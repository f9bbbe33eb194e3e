"""The HTTP session with a PACS, tested with servers that each misbehave in one way."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lib.dicom.remote import session as session_module
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.session import Credentials, checked_url
from lib.errors import DicomError, InputError, RemoteError

Answer = tuple[int, dict[str, str], bytes]
EMPTY: Answer = (200, {"Content-Type": "application/dicom+json"}, b"[]")


class Server(ThreadingHTTPServer):
    """A server that sends its responses in order, repeats the last one, and records requests."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.received: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.received.append((self.path.partition("?")[0], self.headers.get("Authorization", "")))
        status, headers, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server with the given responses."""
    monkeypatch.setattr(session_module, "FIRST_PAUSE_S", 0.0)
    running: list[Server] = []

    def start(*answers: Answer) -> Server:
        server = Server(list(answers))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


REFUSALS: dict[str, tuple[Answer, str]] = {
    "no password": ((401, {}, b""), r"refuses us \(401\); give a user name or a token"),
    "not allowed": ((403, {}, b""), r"refuses us \(403\)"),
    "another address": ((404, {}, b""), r"\(404\); its DICOMweb URL often ends in /dicom-web"),
    "out of order": ((500, {}, b""), "answers 500"),
    "elsewhere": (
        (302, {"Location": "http://evil.example/x"}, b""),
        r"redirects to http://evil.example:80, .* not foll",
    ),
    "always busy": ((503, {}, b""), "answers 503 .* 4 times"),
    "no JSON": ((200, {}, b"<html>"), "its list of series cannot be parsed"),
    "half an answer": ((200, {"Content-Length": "100"}, b"[]"), "cannot be reached, or breaks off .* is kept"),
}


@pytest.mark.parametrize(("answer", "message"), REFUSALS.values(), ids=REFUSALS)
def test_errors_have_helpful_messages(serve: Callable[..., Server], answer: Answer, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        Pacs(serve(answer).url).find_series("CT")


def test_transient_errors_are_retried(serve: Callable[..., Server]) -> None:
    server = serve((503, {}, b""), (200, {"Content-Length": "9"}, b"["), EMPTY)
    assert Pacs(server.url).find_series("CT") == ()
    assert len(server.received) == 3


def test_other_hosts_are_never_requested(serve: Callable[..., Server]) -> None:
    other = serve(EMPTY)
    server = serve((307, {"Location": other.url}, b""))
    with pytest.raises(RemoteError, match="not followed"):
        Pacs(server.url, Credentials(token="t0ken")).find_series("CT")
    assert other.received == []


CREDENTIALS = {
    "password": (Credentials("doctor", "s\u00fc\u00df"), "Basic ZG9jdG9yOnPDvMOf"),  # base64 of UTF-8
    "token": (Credentials(token="abc"), "Bearer abc"),
    "none": (Credentials(), ""),
}


@pytest.mark.parametrize(("credentials", "header"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_requests_have_credentials(serve: Callable[..., Server], credentials: Credentials, header: str) -> None:
    server = serve(EMPTY)
    Pacs(server.url, credentials).find_series("CT")
    assert server.received == [("/dicom-web/series", header)]
    assert "s\u00fc\u00df" not in repr(credentials) and "abc" not in repr(credentials)


def test_unreachable_pacs(serve: Callable[..., Server]) -> None:
    with pytest.raises(RemoteError, match=r"refused.*4 times; is the PACS running, and the address right\?"):
        Pacs("http://127.0.0.1:9/dicom-web").find_series("CT")


def test_untrusted_certificate_is_refused(
    serve: Callable[..., Server], require_program: Callable[[str], str], tmp_path: Path
) -> None:
    server = serve(EMPTY)
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
    ]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(RemoteError, match=r"certificate is not trusted .*REQUESTS_CA_BUNDLE"):
        Pacs(server.url.replace("http:", "https:")).find_series("CT")
    assert server.received == []


BROKEN_PARTS: dict[str, tuple[str, bytes]] = {
    "no part": ("multipart/related; boundary=B", b"\r\n--C\r\n\r\n"),
    "ends before its part": ("multipart/related; boundary=B", b"\r\n--B\r\nContent-Type"),
    "a head without end": ("multipart/related; boundary=B", b"\r\n--B" + b" " * 200_000),
    "two parts": ("multipart/related; boundary=B", b"--B\r\n\r\none\r\n--B\r\n\r\ntwo\r\n--B--"),
    "a web page": ("text/html", b"<html>"),
    "no type": ("", b"DICM"),
}


@pytest.mark.parametrize(("kind", "body"), BROKEN_PARTS.values(), ids=BROKEN_PARTS)
def test_invalid_multipart_response(serve: Callable[..., Server], tmp_path: Path, kind: str, body: bytes) -> None:
    server = serve((200, {"Content-Type": kind}, body))
    with pytest.raises(RemoteError, match=r"instance 1.3 of series 1.2 cannot be parsed"):
        Pacs(server.url).fetch("1.1", "1.2", "1.3", tmp_path / "1.3.dcm")


PARTS: dict[str, tuple[str, bytes]] = {
    "as in the standard": (
        'multipart/related; type="application/dicom"; boundary="B b"',
        b"--B b\r\nA: b\r\n\r\n%b\r\n--B b--",
    ),
    "a part without a head": ("Multipart/Related;boundary=B", b"--B\r\n\r\n%b\r\n--B--\r\n"),
    "message before and after": (
        "multipart/related; boundary=B",
        b"message\r\n--B\r\nA: b\r\n\r\n%b\r\n--B--\r\nwords",
    ),
    "no end": ("multipart/related; boundary=B", b"--B\r\nA: b\r\n\r\n%b"),
    "the file itself": ("application/dicom; transfer-syntax=1.2", b"%b"),
    "no boundary": ("multipart/related", b"%b"),
}


@pytest.mark.parametrize("file", [b"DICM", b"\r\n--\r\n" * 30_000, b""], ids=["short", "long", "empty"])
@pytest.mark.parametrize(("kind", "body"), PARTS.values(), ids=PARTS)
def test_the_only_part_is_written(
    serve: Callable[..., Server], tmp_path: Path, kind: str, body: bytes, file: bytes
) -> None:
    server = serve((200, {"Content-Type": kind}, body.replace(b"%b", file)))
    Pacs(server.url).fetch("1.1", "1.2", "1.3", tmp_path / "1.3.dcm")
    assert (tmp_path / "1.3.dcm").read_bytes() == file


def test_removed_instance_is_a_dicom_error(serve: Callable[..., Server], tmp_path: Path) -> None:
    with pytest.raises(DicomError, match=r"instance 1.3 of series 1.2 is no longer in the PACS"):
        Pacs(serve((404, {}, b"")).url).fetch("1.1", "1.2", "1.3", tmp_path / "1.3.dcm")


URLS = {
    "password": "https://doctor:secret@pacs.example/dicom-web",
    "file": "file:///etc/passwd",
    "no host": "https://",
    "no port": "https://pacs.example:dicom/",
    "question": "https://pacs.example/dicom-web?user=doctor",
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_invalid_url(url: str) -> None:
    with pytest.raises(InputError, match="address"):
        checked_url(url)


@pytest.mark.parametrize(
    "given", [{"username": "u"}, {"password": "p"}, {"username": "u", "password": "p", "token": "t"}]
)
def test_incomplete_or_ambiguous_credentials(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="user name and password"):
        Credentials(**given)
