"""What a response may hold: ids and file names, no path of the server; and headers that keep browsers strict."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.server.middleware.response_guard import REPOSITORY, PathScrubber, ResponseGuard

FOLDERS = {"/srv/ct2pet/models": "the models folder", "/data/hospital studies": "the studies folder"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/srv/ct2pet/models/unet/model.safetensors: not readable", "model.safetensors: not readable"),
        ("/srv/ct2pet/models: cannot be written", "the models folder: cannot be written"),
        ("look into /srv/ct2pet/models.", "look into the models folder."),
        ("'/data/hospital studies/DOE JANE/CT/1.dcm' is cut off", "'1.dcm' is cut off"),
        ("/etc/passwd, /usr/lib/python3/x.py", "passwd, x.py"),
        ("(/home/ann/notes.txt)", "(notes.txt)"),
        (f"{REPOSITORY}/ct2pet_app/app.py line 3", "app.py line 3"),
        (f"{tempfile.gettempdir()}/image-abc/image.nrrd", "image.nrrd"),
        (f"{Path.home()}/.cache/x", "x"),
        ('{"path": "/srv/ct2pet/models/sessions/1-2", "n": 1}', '{"path": "1-2", "n": 1}'),
    ],
)
def test_paths_of_the_server_become_file_names(text: str, expected: str) -> None:
    assert PathScrubber(FOLDERS).scrub(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "GET /datastore/?output=all lists its images; POST /infer/{model}?image=<CT series UID>",
        "http://127.0.0.1:8000/tmp/x and https://viewer.example/home",
        "kBq/mL, 5 mm/s, and/or, 1/2",
        "/ct2pet/models/unet/rollback",
    ],
)
def test_addresses_and_units_stay(text: str) -> None:
    assert PathScrubber(FOLDERS).scrub(text) == text


def respond(headers: dict[str, str], *parts: bytes, method: str = "GET") -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of one response that passed the guard."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        for number, part in enumerate(parts):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts) - 1})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read")

    scope = {"type": "http", "method": method}
    asyncio.run(ResponseGuard(app, folders=FOLDERS)(scope, receive, send))
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return found, b"".join(message["body"] for message in sent[1:])


def test_the_length_of_a_changed_body_is_right() -> None:
    body = json.dumps({"détail": "/srv/ct2pet/models/é/x.nrrd"}, ensure_ascii=False).encode()
    headers, sent = respond({"content-type": "application/json", "content-length": str(len(body))}, body)
    assert json.loads(sent) == {"détail": "x.nrrd"}
    assert headers["content-length"] == str(len(sent))


def test_files_are_sent_as_they_are() -> None:
    headers, sent = respond({"content-type": "application/octet-stream"}, b"/srv/ct2pet/models", b"\x00\xff")
    assert sent == b"/srv/ct2pet/models\x00\xff"
    assert headers["x-content-type-options"] == "nosniff"


def test_the_response_to_head_keeps_the_length_that_get_would_have() -> None:
    headers, sent = respond({"content-type": "application/json", "content-length": "12"}, b"", method="HEAD")
    assert (headers["content-length"], sent) == ("12", b"")


def test_every_response_has_security_headers_and_an_endpoint_can_have_its_own() -> None:
    headers, _ = respond({"content-type": "text/html", "content-security-policy": "default-src 'self'"}, b"")
    assert headers["content-security-policy"] == "default-src 'self'"
    headers, _ = respond({"content-type": "application/json"}, b"{}")
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
