"""Suite `pacs`: a server whose studies lie in a PACS that drips, lies or never ends."""

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
from scripts.attacking.target import MODEL, SMALL, Target, target
from tests.server.malicious_pacs import (
    JSON,
    MULTIPART,
    Behaviour,
    Kind,
    answers,
    drips,
    drips_headers,
    gzip_bomb,
    hangs,
    malicious_pacs,
    redirects,
    responds_json,
    sends_endlessly,
)

CLIENTS = 4  # more than inferences may hold a volume
CLIENT_TIMEOUT_S = 5.0  # after which each of them goes away
SETTLE_TIMEOUT_S = 60.0  # within which what was abandoned must have ended
BOMB_BYTES = 3_400_000_000
HTML = b"<html><body>the hospital's portal</body></html>"
Behaviours = Mapping[Kind, Behaviour]


def behaviours(*, bomb_bytes: int = BOMB_BYTES) -> dict[str, Behaviours]:
    """Return what the PACS does, by name, once the server has found its series."""
    cases: dict[str, Behaviours] = {}
    for kind in (Kind.SEARCH, Kind.METADATA, Kind.INSTANCE):
        form = MULTIPART if kind is Kind.INSTANCE else JSON
        begin = b"\r\n--B\r\nContent-Type: application/dicom\r\n\r\n" if kind is Kind.INSTANCE else b"["
        cases |= {
            f"{kind.value} drips": {kind: drips(form, begin)},
            f"{kind.value} drips its headers": {kind: drips_headers()},
            f"{kind.value} hangs": {kind: hangs()},
            f"{kind.value} never ends": {kind: sends_endlessly(form, begin)},
            f"{kind.value} is a gzip bomb": {kind: gzip_bomb(bomb_bytes, form, begin)},
            f"{kind.value} is HTML": {kind: answers(200, HTML, Content_Type="text/html")},
            f"{kind.value} redirects": {kind: redirects()},
            f"{kind.value} is JSON of another shape": {
                kind: responds_json({"0020000E": [None, float("nan"), "\ud800"]})
            },
            **{f"{kind.value} answers {status}": {kind: answers(status)} for status in (400, 401, 403, 404, 500, 503)},
        }
    return cases


def pacs_suite(
    folder: Path, *, said: Notify, bomb_bytes: int = BOMB_BYTES, only: Callable[[str], bool] = bool,
    latency: bool = True,
) -> Result:  # fmt: skip
    """Return how the server fares with each behaviour, when inferences, a reload and downloads are asked for."""
    result = Result("pacs")
    studies = folder / "pacs"
    write_phantoms(studies, patients=2, settings=SMALL)
    for name, behaviour in behaviours(bomb_bytes=bomb_bytes).items():
        if only(name):
            _case(folder / f"case-{len(result.rows)}", result, name, behaviour, studies, said=said, latency=latency)
    rows = result.rows
    for key in ("info_worst_s", "peak_beyond_rest_mb", "settled_s"):
        result.figures[key] = max((row[key] for row in rows), default=0)
    return result


def _case(
    folder: Path, result: Result, name: str, behaviour: Behaviours, studies: Path, *, said: Notify, latency: bool
) -> None:
    with malicious_pacs(studies) as pacs, contextlib.ExitStack() as stack:
        to = stack.enter_context(target(folder, studies=pacs.url))
        cts = [one["uid"] for one in _series(to) if one.get("modality") == "CT"]
        to.ct, other = cts[0], cts[-1]
        warmed = to.request("POST", f"/infer/{MODEL}?image={other}&output=json")
        if warmed.status_code != 200:
            raise RuntimeError(f"an honest PACS is refused: {warmed.status_code} {warmed.text[:300]}")
        to.rest()
        pacs.behaviours.update(behaviour)
        with to.watched() as measured:
            statuses, wrong = _ask(to)
            settled_s = _settle(to, other)
        if not to.is_alive():
            wrong.append(f"the server ended with {to.server.process.returncode}")
    if settled_s is None:
        wrong.append(f"inferences of another CT wait for over {SETTLE_TIMEOUT_S:.0f} s after all clients went away")
    wrong += measured.violations(latency=latency)
    row = {"case": name, "statuses": statuses, "settled_s": settled_s or SETTLE_TIMEOUT_S, **measured.figures()}
    result.rows.append({**row, "wrong": wrong})
    result.violations += [f"{name}: {sentence}" for sentence in wrong]
    said(f"{name}: {statuses} {row['peak_beyond_rest_mb']} MB, /info/ {row['info_worst_s']} s {wrong or ''}")


def _series(to: Target) -> list[dict[str, str]]:
    found: list[dict[str, str]] = to.request("GET", "/ct2pet/series").json()
    return [{**one, "uid": one.get("series_instance_uid", one.get("uid", ""))} for one in found]


def _ask(to: Target) -> tuple[list[int], list[str]]:
    """Return the statuses of clients who ask for what the PACS must give, 0 where they went away; and what is wrong."""
    asked = [("POST", f"/infer/{MODEL}?image={to.ct}&output=json")] * CLIENTS
    asked += [("GET", f"/datastore/image?image={to.ct}"), ("POST", "/reload"), ("GET", "/datastore/?output=all")]
    statuses, wrong = [], []
    with ThreadPoolExecutor(len(asked)) as pool:
        for response in pool.map(lambda one: _patiently(to, *one), asked):
            statuses.append(0 if response is None else response.status_code)
            if response is not None and (sentence := find_violation(response)):
                wrong.append(sentence)
    return statuses, wrong


def _patiently(to: Target, method: str, path: str) -> requests.Response | None:
    try:
        return to.request(method, path, timeout=CLIENT_TIMEOUT_S)
    except requests.Timeout:
        return None
    except requests.ConnectionError:
        return None


def _settle(to: Target, ct: str) -> float | None:
    """Return the seconds until a CT that was fetched before is inferred again; None where it is not in time."""
    began = time.monotonic()
    with contextlib.suppress(requests.RequestException):
        to.request("POST", f"/infer/{MODEL}?image={ct}&output=json", timeout=SETTLE_TIMEOUT_S)
        return round(time.monotonic() - began, 2)
    return None
