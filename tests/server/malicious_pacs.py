"""A DICOMweb service for tests that serves a folder of DICOM files, with configurable misbehaviour.

Each kind of request (`Kind`) has a behaviour: a function that writes the response. The default is a correct response;
`tests.server.pacs_misbehaviour` has others.

    with malicious_pacs(folder) as pacs:
        pacs.behaviours[Kind.METADATA] = responds(500)
        pacs.behaviours[Kind.INSTANCE] = drips(MULTIPART, b"")
        ... pacs.url ...
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import Dataset, dcmread

JSON = "application/dicom+json"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=B'


class Kind(Enum):
    """The DICOMweb service that a request uses."""

    SEARCH = "QIDO-RS series"
    METADATA = "WADO-RS metadata of a series"
    INSTANCE = "WADO-RS instance"
    STORE = "STOW-RS"


class MaliciousPacs(ThreadingHTTPServer):
    """The service; `requests` counts requests, `aborted` the responses during which the client disconnected."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), RequestHandler)
        self.behaviours: dict[Kind, Behaviour] = {}
        self.requests: Counter[Kind] = Counter()
        self.aborted: Counter[Kind] = Counter()
        self.closed = threading.Event()
        self.instances: dict[str, bytes] = {}
        self.headers_of: dict[str, Dataset] = {}
        for path in sorted(folder.rglob("*.dcm")) if folder else ():
            self.add(path.read_bytes())

    @property
    def url(self) -> str:
        """The DICOMweb URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"

    def add(self, content: bytes) -> Dataset:
        """Add one DICOM file and return its header."""
        header = dcmread(io.BytesIO(content), stop_before_pixels=True)
        self.instances[header.SOPInstanceUID] = content
        self.headers_of[header.SOPInstanceUID] = header
        return header

    def rows(self) -> list[dict[str, Any]]:
        """Return all series as QIDO-RS rows."""
        counts = Counter(header.SeriesInstanceUID for header in self.headers_of.values())
        first = {header.SeriesInstanceUID: header for header in reversed(self.headers_of.values())}
        return [row(first[uid].StudyInstanceUID, uid, first[uid].Modality, count) for uid, count in counts.items()]

    def metadata(self, series_uid: str) -> list[dict[str, Any]]:
        """Return the WADO-RS metadata of a series."""
        headers = [header for header in self.headers_of.values() if header.SeriesInstanceUID == series_uid]
        return [header.to_json_dict() for header in headers]

    def end_open_responses(self) -> None:
        """End all dripping and hanging responses."""
        self.closed.set()
        self.closed = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: disconnecting clients are expected."""


class RequestHandler(BaseHTTPRequestHandler):
    """One connection; behaviours write with `send` and `self.wfile`."""

    protocol_version = "HTTP/1.1"
    server: MaliciousPacs
    body = b""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        kind = Kind.METADATA if path.endswith("/metadata") else Kind.INSTANCE if "/instances/" in path else Kind.SEARCH
        self._behave(kind)

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._behave(Kind.STORE)

    def _behave(self, kind: Kind) -> None:
        self._ended = self.server.closed
        self.server.requests[kind] += 1
        try:
            self.server.behaviours.get(kind, CORRECT[kind])(self)
            self.wfile.flush()
            self.close_connection = self.close_connection or self._ended.is_set()
        except OSError:
            self.server.aborted[kind] += 1
            self.close_connection = True

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a complete response."""
        self.send_head(status, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def wait(self, seconds: float) -> bool:
        """Wait and return whether the service is still running."""
        return not self._ended.wait(seconds)

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of a search."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def parts(self) -> list[str]:
        """The path segments after /dicom-web."""
        return urlsplit(self.path).path.split("/")[2:]

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


Behaviour = Callable[[RequestHandler], None]


# -- correct responses -------------------------------------------------------------------------------------------------


def row(study_uid: str, series_uid: str, modality: str, instances: int) -> dict[str, Any]:
    """Return the QIDO-RS row of a series."""
    return {
        "0020000D": {"vr": "UI", "Value": [study_uid]},
        "0020000E": {"vr": "UI", "Value": [series_uid]},
        "00080060": {"vr": "CS", "Value": [modality]},
        "00201209": {"vr": "IS", "Value": [instances]},
    }


def multipart(*parts: bytes) -> bytes:
    """Return the body of a WADO-RS response."""
    pieces = [b"\r\n--B\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts]
    return b"".join(pieces) + b"\r\n--B--\r\n"


def stored(*uids: str) -> dict[str, Any]:
    """Return the body of a STOW-RS response that lists these instances as stored."""
    return {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]}}


def _search(handler: RequestHandler) -> None:
    query = handler.query
    rows = [one for one in handler.server.rows() if one["00080060"]["Value"][0] == query.get("Modality")]
    begin = int(query.get("offset", 0))
    _send_json(handler, rows[begin : begin + int(query.get("limit", 10**9))])


def _metadata(handler: RequestHandler) -> None:
    _send_json(handler, handler.server.metadata(handler.parts[3]))


def _instance(handler: RequestHandler) -> None:
    content = handler.server.instances.get(handler.parts[5])
    if content is None:
        handler.send(404, {}, b"")
    else:
        handler.send(200, {"Content-Type": MULTIPART}, multipart(content))


def _store(handler: RequestHandler) -> None:
    _send_json(handler, stored(*(handler.server.add(part).SOPInstanceUID for part in sent_parts(handler))))


def sent_parts(handler: RequestHandler) -> list[bytes]:
    """Return the DICOM files of a STOW-RS request."""
    boundary = handler.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
    pieces = handler.body.split(b"--" + boundary)[1:-1]
    return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces]


def _send_json(handler: RequestHandler, content: object) -> None:
    handler.send(200, {"Content-Type": JSON}, json.dumps(content).encode())


CORRECT: dict[Kind, Behaviour] = {
    Kind.SEARCH: _search,
    Kind.METADATA: _metadata,
    Kind.INSTANCE: _instance,
    Kind.STORE: _store,
}


@contextlib.contextmanager
def malicious_pacs(folder: Path | None = None) -> Iterator[MaliciousPacs]:
    """Yield a running service with the files of a folder; end its open responses at the end."""
    pacs = MaliciousPacs(folder)
    threading.Thread(target=pacs.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield pacs
    finally:
        pacs.closed.set()
        pacs.shutdown()
        pacs.server_close()
