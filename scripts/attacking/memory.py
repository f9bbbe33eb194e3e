"""Suite `memory`: small uploads that require much memory, one after another and eight at once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.client
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from scripts.attacking.cases import Cases, Notify, send_or_time_out
from scripts.attacking.result import HasStatus, Reply, Result
from scripts.attacking.target import MODEL, REQUEST_TIMEOUT_S, Target
from scripts.attacking.uploads import Upload, memory_uploads

AT_ONCE = 8
BODY_BYTES = 600_000_000
CLOSED = 499  # stands for a connection that was closed without a response
REFUSALS = (400, 401, 403, 411, 413, 415, 422, CLOSED)
JSON_ENDPOINTS = ("/train/cascade3", "/scoring/metrics", "/batch/infer/cascade3", "/activelearning/first")
Send = Callable[[Target, Upload, bytes], requests.Response]


def by_infer(target: Target, upload: Upload, content: bytes) -> requests.Response:
    """Send an upload with an inference."""
    return target.request("POST", f"/infer/{MODEL}?output=json", files={"file": (upload.file, content)})


def by_session(target: Target, upload: Upload, content: bytes) -> requests.Response:
    """Send an upload as a session, then run an inference on it."""
    made = target.request(
        "PUT", "/session/", params={"uncompress": upload.file.endswith(".zip")}, files={"files": (upload.file, content)}
    )
    if made.status_code != 200:
        return made
    session_id = made.json()["session_id"]
    try:
        return target.request("POST", f"/infer/{MODEL}?session_id={session_id}&output=json")
    finally:
        target.request("DELETE", f"/session/{session_id}")


def by_datastore(target: Target, upload: Upload, content: bytes) -> requests.Response:
    """Add an upload to the datastore, which reads it, and remove it."""
    image = f"attack-{time.monotonic_ns()}"
    kept = target.request("PUT", f"/datastore/image?image={image}", files={"file": (upload.file, content)})
    if kept.status_code == 200:
        target.request("DELETE", f"/datastore/image?id={kept.json()['image']}")
    return kept


def by_pair(target: Target, upload: Upload, content: bytes) -> requests.Response:
    """Send an upload as the CT and PET of a study."""
    return target.request("POST", "/ct2pet/pairs", files={"study": (upload.file, content)})


WAYS: dict[str, Send] = {
    "POST /infer": by_infer,
    "PUT /session/": by_session,
    "PUT /datastore/image": by_datastore,
    "POST /ct2pet/pairs": by_pair,
}


def memory_suite(
    folder: Path, *, notify: Notify, uploads: Sequence[Upload] | None = None, body_bytes: int = BODY_BYTES,
    ways: Sequence[str] = tuple(WAYS), at_once: int = AT_ONCE, memory_limit_gb: float = 10.0, latency: bool = True,
) -> Result:  # fmt: skip
    """Measure the memory of uploads at every upload endpoint, and of large bodies at JSON endpoints.

    Args:
        at_once: Number of concurrent copies of each upload, sent after the single ones; 0 sends none.
        latency: Whether slow responses of `/info/` are violations.
    """
    result = Result("memory")
    cache = UploadCache(folder / "crafted")
    cases = Cases(folder, result, notify=notify, memory_limit_gb=memory_limit_gb, latency=latency)
    with contextlib.closing(cases):
        tried = uploads if uploads is not None else memory_uploads()
        for upload, way in ((one, way) for one in tried for way in _ways(one, ways)):
            content = cache.read(upload)
            cases.run(
                f"{upload.name}, {way}",
                functools.partial(_once, upload=upload, content=content, way=way),
                may_time_out=upload.is_valid,
            )
        for upload in tried if at_once else ():
            content = cache.read(upload)
            selected_ways = list(itertools.islice(itertools.cycle(_ways(upload, ways)), at_once))
            cases.run(
                f"{upload.name}, {at_once} at once",
                functools.partial(_at_once, upload=upload, content=content, ways=selected_ways),
                may_time_out=upload.is_valid,
            )
        for endpoint, form in itertools.product(JSON_ENDPOINTS if body_bytes else (), ("field", "file")):
            cases.run(
                f"{body_bytes // 10**6} MB as multipart {form} at {endpoint}",
                functools.partial(_large_body, endpoint=endpoint, form=form, body_bytes=body_bytes),
                expected=REFUSALS,
            )
    if body_bytes:
        _with_accounts(folder / "accounts", result, notify=notify, body_bytes=body_bytes, latency=latency)
    _summarize(result)
    return result


def _ways(upload: Upload, ways: Sequence[str]) -> list[str]:
    return [way for way in ways if upload.file.endswith(".zip") or way != "POST /ct2pet/pairs"]


def _at_once(target: Target, upload: Upload, content: bytes, ways: Sequence[str]) -> list[HasStatus]:
    with ThreadPoolExecutor(len(ways)) as pool:
        return list(pool.map(lambda way: send_or_time_out(lambda: WAYS[way](target, upload, content)), ways))


def large_body(target: Target, endpoint: str, form: str, size: int) -> Reply:
    """Send a form with one field or file of `size` bytes, generated while it is sent."""
    parameters = 'name="a"' if form == "field" else 'name="a"; filename="a.bin"'
    head = f"--limit\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode()
    tail, block = b"\r\n--limit--\r\n", b"x" * 2**18
    count = size // len(block)
    connection = http.client.HTTPConnection(*target.host, timeout=REQUEST_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.putrequest("POST", endpoint)
        connection.putheader("Content-Type", "multipart/form-data; boundary=limit")
        connection.putheader("Content-Length", str(len(head) + count * len(block) + len(tail)))
        if target.server.token:
            connection.putheader("Authorization", f"Bearer {target.server.token}")
        connection.endheaders()
        with contextlib.suppress(OSError):  # the server may refuse before the body is complete
            connection.send(head)
            for _ in range(count):
                connection.send(block)
            connection.send(tail)
        try:
            response = connection.getresponse()
            return Reply(response.status, response.read().decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException):
            return Reply(CLOSED, '{"detail": "the server closed the connection while the body was sent"}')


class UploadCache:
    """Generates each upload once and caches it in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, upload: Upload) -> bytes:
        """Return the content of an upload."""
        path = self._folder / "".join(letter if letter.isalnum() else "-" for letter in upload.name)
        if not path.is_file():
            path.write_bytes(upload.make())
        return path.read_bytes()


def _with_accounts(folder: Path, result: Result, *, notify: Notify, body_bytes: int, latency: bool) -> None:
    """Send the large bodies without a token and with the token of the lowest role."""
    cases = Cases(folder, result, notify=notify, memory_limit_gb=10.0, latency=latency, accounts=True)
    with contextlib.closing(cases):
        users = {"no token": "", "role user": cases.target().server.logged_in_as("una").token}
        for (name, token), endpoint in itertools.product(users.items(), JSON_ENDPOINTS):
            cases.run(
                f"{body_bytes // 10**6} MB as multipart field at {endpoint}, {name}",
                functools.partial(_large_body, endpoint=endpoint, form="field", body_bytes=body_bytes, token=token),
                expected=REFUSALS,
            )


def _once(target: Target, *, upload: Upload, content: bytes, way: str) -> list[HasStatus]:
    return [send_or_time_out(lambda: WAYS[way](target, upload, content))]


def _large_body(
    target: Target, *, endpoint: str, form: str, body_bytes: int, token: str | None = None
) -> list[HasStatus]:
    """Send a large body; `token` replaces that of the target's user."""
    if token is not None:
        target = dataclasses.replace(target, server=dataclasses.replace(target.server, token=token))
    return [large_body(target, endpoint, form, body_bytes)]


def _summarize(result: Result) -> None:
    rows = result.rows
    for key in ("info_worst_s", "peak_beyond_rest_mb", "peak_with_children_beyond_rest_mb", "largest_child_mb"):
        result.metrics[key] = max((row[key] for row in rows), default=0)
    result.metrics["slowest_case_s"] = max((row["seconds"] for row in rows), default=0)
