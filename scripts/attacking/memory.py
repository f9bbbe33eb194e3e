"""Suite `memory`: small uploads that ask for much memory, one after another and eight at once."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from scripts.attacking.cases import Cases, Notify, patiently
from scripts.attacking.result import HasStatus, Reply, Result
from scripts.attacking.target import MODEL, REQUEST_TIMEOUT_S, Target
from scripts.attacking.uploads import Upload, memory_uploads

AT_ONCE = 8
BODY_BYTES = 600_000_000
CLOSED = 499  # a connection that ended before there was a response
REFUSALS = (400, 401, 403, 411, 413, 415, 422, CLOSED)
JSON_ADDRESSES = ("/train/cascade3", "/scoring/metrics", "/batch/infer/cascade3", "/activelearning/first")
Send = Callable[[Target, Upload, bytes], requests.Response]


def by_infer(to: Target, upload: Upload, content: bytes) -> requests.Response:
    """Send an upload with an inference."""
    return to.request("POST", f"/infer/{MODEL}?output=json", files={"file": (upload.file, content)})


def by_session(to: Target, upload: Upload, content: bytes) -> requests.Response:
    """Send an upload as a session, and infer from it."""
    made = to.request(
        "PUT", "/session/", params={"uncompress": upload.file.endswith(".zip")}, files={"files": (upload.file, content)}
    )
    if made.status_code != 200:
        return made
    session_id = made.json()["session_id"]
    try:
        return to.request("POST", f"/infer/{MODEL}?session_id={session_id}&output=json")
    finally:
        to.request("DELETE", f"/session/{session_id}")


def by_datastore(to: Target, upload: Upload, content: bytes) -> requests.Response:
    """Keep an upload as an image, which reads it, and remove it."""
    image = f"attack-{time.monotonic_ns()}"
    kept = to.request("PUT", f"/datastore/image?image={image}", files={"file": (upload.file, content)})
    if kept.status_code == 200:
        to.request("DELETE", f"/datastore/image?id={kept.json()['image']}")
    return kept


def by_pair(to: Target, upload: Upload, content: bytes) -> requests.Response:
    """Send an upload as the CT and PET of a study."""
    return to.request("POST", "/ct2pet/pairs", files={"study": (upload.file, content)})


WAYS: dict[str, Send] = {
    "POST /infer": by_infer,
    "PUT /session/": by_session,
    "PUT /datastore/image": by_datastore,
    "POST /ct2pet/pairs": by_pair,
}


def memory_suite(
    folder: Path, *, said: Notify, uploads: Sequence[Upload] | None = None, body_bytes: int = BODY_BYTES,
    ways: Sequence[str] = tuple(WAYS), at_once: int = AT_ONCE, memory_limit_gb: float = 10.0, latency: bool = True,
) -> Result:  # fmt: skip
    """Return what the uploads cost, by every address that takes them; and what a large body at a JSON address does.

    Args:
        at_once: How many of each upload are sent at the same time after all were sent alone; 0 leaves that out.
        latency: Whether the seconds of `/info/` are judged, too.
    """
    result = Result("memory")
    crafted = Crafted(folder / "crafted")
    cases = Cases(folder, result, said=said, memory_limit_gb=memory_limit_gb, latency=latency)
    with contextlib.closing(cases):
        tried = uploads if uploads is not None else memory_uploads()
        for upload, way in ((one, way) for one in tried for way in _ways(one, ways)):
            content = crafted.bytes_of(upload)
            cases.run(
                f"{upload.name}, {way}",
                lambda to, u=upload, c=content, w=way: [patiently(lambda: WAYS[w](to, u, c))],
                may_last=upload.is_valid,
            )
        for upload in tried if at_once else ():
            content = crafted.bytes_of(upload)
            eight = list(itertools.islice(itertools.cycle(_ways(upload, ways)), at_once))
            cases.run(
                f"{upload.name}, {at_once} at once",
                lambda to, u=upload, c=content, w=eight: _at_once(to, u, c, w),
                may_last=upload.is_valid,
            )
        for address, form in itertools.product(JSON_ADDRESSES if body_bytes else (), ("field", "file")):
            cases.run(
                f"{body_bytes // 10**6} MB as multipart {form} at {address}",
                lambda to, a=address, f=form: [large_body(to, a, f, body_bytes)],
                expected=REFUSALS,
            )
    if body_bytes:
        _with_accounts(folder / "accounts", result, said=said, body_bytes=body_bytes, latency=latency)
    _sum_up(result)
    return result


def _ways(upload: Upload, ways: Sequence[str]) -> list[str]:
    return [way for way in ways if upload.file.endswith(".zip") or way != "POST /ct2pet/pairs"]


def _at_once(to: Target, upload: Upload, content: bytes, ways: Sequence[str]) -> list[HasStatus]:
    with ThreadPoolExecutor(len(ways)) as pool:
        return list(pool.map(lambda way: patiently(lambda: WAYS[way](to, upload, content)), ways))


def large_body(to: Target, address: str, form: str, size: int) -> Reply:
    """Send a body of so many bytes as one field, or one file, of a form; it is generated while it is sent."""
    what = 'name="a"' if form == "field" else 'name="a"; filename="a.bin"'
    head = f"--limit\r\nContent-Disposition: form-data; {what}\r\n\r\n".encode()
    tail, block = b"\r\n--limit--\r\n", b"x" * 2**18
    count = size // len(block)
    connection = http.client.HTTPConnection(*to.host, timeout=REQUEST_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.putrequest("POST", address)
        connection.putheader("Content-Type", "multipart/form-data; boundary=limit")
        connection.putheader("Content-Length", str(len(head) + count * len(block) + len(tail)))
        if to.server.token:
            connection.putheader("Authorization", f"Bearer {to.server.token}")
        connection.endheaders()
        with contextlib.suppress(OSError):  # refused before all was sent
            connection.send(head)
            for _ in range(count):
                connection.send(block)
            connection.send(tail)
        try:
            response = connection.getresponse()
            return Reply(response.status, response.read().decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException):
            return Reply(CLOSED, '{"detail": "the server closed the connection while the body was sent"}')


class Crafted:
    """Uploads, made once and kept as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def bytes_of(self, upload: Upload) -> bytes:
        """Return the bytes of an upload."""
        path = self._folder / "".join(letter if letter.isalnum() else "-" for letter in upload.name)
        if not path.is_file():
            path.write_bytes(upload.make())
        return path.read_bytes()


def _with_accounts(folder: Path, result: Result, *, said: Notify, body_bytes: int, latency: bool) -> None:
    """Send the large bodies without a token, and with one of the least role."""
    cases = Cases(folder, result, said=said, memory_limit_gb=10.0, latency=latency, accounts=True)
    with contextlib.closing(cases):
        users = {"no token": "", "role user": cases.target().server.logged_in_as("una").token}
        for (name, token), address in itertools.product(users.items(), JSON_ADDRESSES):
            cases.run(
                f"{body_bytes // 10**6} MB as multipart field at {address}, {name}",
                lambda to, a=address, t=token: [large_body(_as(to, t), a, "field", body_bytes)],
                expected=REFUSALS,
            )


def _as(to: Target, token: str) -> Target:
    return dataclasses.replace(to, server=dataclasses.replace(to.server, token=token))


def _sum_up(result: Result) -> None:
    rows = result.rows
    for key in ("info_worst_s", "peak_beyond_rest_mb", "peak_with_children_beyond_rest_mb", "largest_child_mb"):
        result.figures[key] = max((row[key] for row in rows), default=0)
    result.figures["slowest_case_s"] = max((row["seconds"] for row in rows), default=0)
