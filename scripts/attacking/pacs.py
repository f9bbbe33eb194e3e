"""Suite `pacs`: a server on a PACS whose responses are slow, invalid or endless."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from lib.phantom.generate import write_phantoms
from scripts.attacking.cases import Notify
from scripts.attacking.result import Result, find_violation
from scripts.attacking.target import MODEL, SMALL, Target, running_target
from tests.server import pacs_misbehaviour as misbehaviour
from tests.server.malicious_pacs import JSON, MULTIPART, Behaviour, Kind, malicious_pacs

CLIENTS = 4  # more than may hold a volume at once
CLIENT_TIMEOUT_S = 5.0  # after which each client disconnects
SETTLE_TIMEOUT_S = 60.0  # within which abandoned work must end
BOMB_BYTES = 3_400_000_000
HTML = b"<html><body>the hospital's portal</body></html>"
Behaviours = Mapping[Kind, Behaviour]


def behaviours(*, bomb_bytes: int = BOMB_BYTES) -> dict[str, Behaviours]:
    """Return behaviours of the PACS by name; they apply after the server has listed its series."""
    cases: dict[str, Behaviours] = {}
    for kind in (Kind.SEARCH, Kind.METADATA, Kind.INSTANCE):
        form = MULTIPART if kind is Kind.INSTANCE else JSON
        begin = b"\r\n--B\r\nContent-Type: application/dicom\r\n\r\n" if kind is Kind.INSTANCE else b"["
        cases |= {
            f"{kind.value} drips": {kind: misbehaviour.drips(form, begin)},
            f"{kind.value} drips its headers": {kind: misbehaviour.drips_headers()},
            f"{kind.value} hangs": {kind: misbehaviour.hangs()},
            f"{kind.value} never ends": {kind: misbehaviour.sends_endlessly(form, begin)},
            f"{kind.value} is a gzip bomb": {kind: misbehaviour.gzip_bomb(bomb_bytes, form, begin)},
            f"{kind.value} is HTML": {kind: misbehaviour.responds(200, HTML, Content_Type="text/html")},
            f"{kind.value} redirects": {kind: misbehaviour.redirects()},
            f"{kind.value} is JSON of another shape": {
                kind: misbehaviour.responds_json({"0020000E": [None, float("nan"), "\ud800"]})
            },
            **{
                f"{kind.value} responds {status}": {kind: misbehaviour.responds(status)}
                for status in (400, 401, 403, 404, 500, 503)
            },
        }
    return cases


def pacs_suite(
    folder: Path, *, notify: Notify, bomb_bytes: int = BOMB_BYTES, only: Callable[[str], bool] = bool,
    latency: bool = True,
) -> Result:  # fmt: skip
    """Measure the server with each behaviour during inferences, a reload and downloads."""
    result = Result("pacs")
    studies = folder / "pacs"
    write_phantoms(studies, patients=2, settings=SMALL)
    for name, behaviour in behaviours(bomb_bytes=bomb_bytes).items():
        if only(name):
            _case(folder / f"case-{len(result.rows)}", result, name, behaviour, studies, notify=notify, latency=latency)
    rows = result.rows
    for key in ("info_worst_s", "peak_beyond_rest_mb", "settled_s"):
        result.metrics[key] = max((row[key] for row in rows), default=0)
    return result


def _case(
    folder: Path, result: Result, name: str, behaviour: Behaviours, studies: Path, *, notify: Notify, latency: bool
) -> None:
    with malicious_pacs(studies) as pacs, contextlib.ExitStack() as stack:
        target = stack.enter_context(running_target(folder, studies=pacs.url))
        cts = [one["uid"] for one in _series(target) if one.get("modality") == "CT"]
        target.ct, other = cts[0], cts[-1]
        warm_up = target.request("POST", f"/infer/{MODEL}?image={other}&output=json")
        if warm_up.status_code != 200:
            raise RuntimeError(f"inference fails with a correct PACS: {warm_up.status_code} {warm_up.text[:300]}")
        target.record_idle_memory()
        pacs.behaviours.update(behaviour)
        with target.watched() as measured:
            statuses, wrong = _send_requests(target)
            settled_s = _settle(target, other)
        if not target.is_alive():
            wrong.append(f"the server ended with {target.server.process.poll()}")
    if settled_s is None:
        wrong.append(f"inferences of another CT take over {SETTLE_TIMEOUT_S:.0f} s after all clients have disconnected")
    wrong += measured.violations(latency=latency)
    row = {"case": name, "statuses": statuses, "settled_s": settled_s or SETTLE_TIMEOUT_S, **measured.metrics()}
    result.rows.append({**row, "wrong": wrong})
    result.violations += [f"{name}: {sentence}" for sentence in wrong]
    notify(f"{name}: {statuses} {row['peak_beyond_rest_mb']} MB, /info/ {row['info_worst_s']} s {wrong or ''}")


def _series(target: Target) -> list[dict[str, str]]:
    found: list[dict[str, str]] = target.request("GET", "/ct2pet/series").json()
    return [{**one, "uid": one.get("series_instance_uid", one.get("uid", ""))} for one in found]


def _send_requests(target: Target) -> tuple[list[int], list[str]]:
    """Send requests that need the PACS; return their statuses, 0 after a timeout, and all violations."""
    calls = [("POST", f"/infer/{MODEL}?image={target.ct}&output=json")] * CLIENTS
    calls += [
        ("GET", f"/datastore/image?image={target.ct}"),
        ("POST", "/reload"),
        ("GET", "/datastore/?output=all"),
    ]
    statuses, wrong = [], []
    with ThreadPoolExecutor(len(calls)) as pool:
        for response in pool.map(lambda one: _request(target, *one), calls):
            statuses.append(0 if response is None else response.status_code)
            if response is not None and (sentence := find_violation(response)):
                wrong.append(sentence)
    return statuses, wrong


def _request(target: Target, method: str, path: str) -> requests.Response | None:
    try:
        return target.request(method, path, timeout=CLIENT_TIMEOUT_S)
    except requests.Timeout:
        return None
    except requests.ConnectionError:
        return None


def _settle(target: Target, ct: str) -> float | None:
    """Return the seconds until an inference of a cached CT succeeds; None after `SETTLE_TIMEOUT_S`."""
    began = time.monotonic()
    with contextlib.suppress(requests.RequestException):
        target.request("POST", f"/infer/{MODEL}?image={ct}&output=json", timeout=SETTLE_TIMEOUT_S)
        return round(time.monotonic() - began, 2)
    return None
