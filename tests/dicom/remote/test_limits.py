"""Size and time limits of responses: decompression bombs, endless bodies, slow responses, cancellation."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib.dicom.remote import budget as budget_module
from lib.dicom.remote import cache as cache_module
from lib.dicom.remote import metadata as metadata_module
from lib.dicom.remote import pacs as pacs_module
from lib.dicom.remote.budget import InvalidResponseError
from lib.dicom.remote.cache import SeriesCache
from lib.dicom.remote.metadata import RemoteSeries
from lib.dicom.remote.pacs import Pacs
from lib.errors import CT2PETError, FetchCancelledError, RemoteError
from lib.types import Series
from tests.dicom.builders import instance
from tests.server.malicious_pacs import JSON, MULTIPART, Behaviour, Kind, MaliciousPacs, malicious_pacs, row
from tests.server.pacs_misbehaviour import (
    INFINITE,
    drips,
    drips_headers,
    gzip_bomb,
    hangs,
    redirects,
    responds,
    responds_json,
    sends_endlessly,
)

BOMB_BYTES = 3 * 10**8
PEAK_BYTES = 100 * 10**6  # of Python's own allocations
CANCELLED_TIMEOUT_S = 2.0
SERIES = RemoteSeries("1.2", "1.1", "CT", 10)
PART = b"--B\r\nContent-Type: application/dicom\r\n\r\n"


@pytest.fixture
def pacs() -> Iterator[MaliciousPacs]:
    with malicious_pacs() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce time limits from minutes to a second."""
    monkeypatch.setattr(budget_module, "RESPONSE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(budget_module, "MIN_BYTES_PER_S", 10**6)


@contextmanager
def small_peak() -> Iterator[None]:
    """Fail if the block allocates more memory than the limit."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    finally:
        tracemalloc.stop()


def send_request(pacs: MaliciousPacs, kind: Kind, folder: Path) -> None:
    """Send a request of a kind."""
    client = Pacs(pacs.url)
    if kind is Kind.SEARCH:
        client.find_series("CT")
    elif kind is Kind.METADATA:
        list(client.read_headers(SERIES, folder))
    elif kind is Kind.INSTANCE:
        client.fetch("1.1", "1.2", "1.3", folder / "1.3.dcm")
    else:
        client.store([instance(0)])


def begins_with(kind: Kind) -> tuple[str, bytes]:
    return (MULTIPART, PART) if kind is Kind.INSTANCE else (JSON, b"[")


@pytest.mark.parametrize("kind", Kind)
def test_decompression_stops_at_the_limit(
    pacs: MaliciousPacs, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs_module, "MAX_INSTANCE_BYTES", 10**8)
    pacs.behaviours[kind] = gzip_bomb(BOMB_BYTES, *begins_with(kind))
    with small_peak(), pytest.raises(InvalidResponseError, match=r"sends more than \d+ MB"):
        send_request(pacs, kind, tmp_path)


def test_the_body_of_a_redirect_is_not_read(pacs: MaliciousPacs, tmp_path: Path) -> None:
    pacs.behaviours[Kind.SEARCH] = gzip_bomb(BOMB_BYTES, status=302, Location="/elsewhere")
    with small_peak(), pytest.raises(RemoteError, match="not followed"):
        send_request(pacs, Kind.SEARCH, tmp_path)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "compress", "gzip,", "\u00e4"])
def test_other_encodings_are_refused(pacs: MaliciousPacs, tmp_path: Path, encoding: str) -> None:
    pacs.behaviours[Kind.SEARCH] = responds(200, b"[]", Content_Encoding=encoding, Content_Type=JSON)
    with pytest.raises(InvalidResponseError, match="Content-Encoding"):
        send_request(pacs, Kind.SEARCH, tmp_path)


@pytest.mark.parametrize("kind", Kind)
def test_endless_body_stops_at_the_limit(
    pacs: MaliciousPacs, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs_module, "MAX_INSTANCE_BYTES", 10**7)
    pacs.behaviours[kind] = sends_endlessly(*begins_with(kind))
    with small_peak(), pytest.raises(InvalidResponseError, match="sends more than"):
        send_request(pacs, kind, tmp_path)


def test_excessive_content_length_is_refused(pacs: MaliciousPacs, tmp_path: Path) -> None:
    pacs.behaviours[Kind.SEARCH] = drips(length=INFINITE)
    with pytest.raises(InvalidResponseError, match="sends more than"):
        send_request(pacs, Kind.SEARCH, tmp_path)


def slow(content_type: str, begin: bytes) -> dict[str, Behaviour]:
    return {"body": drips(content_type, begin, interval_s=0.1), "headers": drips_headers(interval_s=0.1)}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", ["body", "headers"])
@pytest.mark.parametrize("kind", Kind)
def test_slow_response_is_refused(pacs: MaliciousPacs, kind: Kind, tmp_path: Path, what: str) -> None:
    pacs.behaviours[kind] = slow(*begins_with(kind))[what]
    with pytest.raises(RemoteError, match=r"sends too slowly, \d+ bytes in"):
        send_request(pacs, kind, tmp_path)


def test_silent_pacs_is_reported(pacs: MaliciousPacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "SILENCE_TIMEOUT_S", 0.5)
    pacs.behaviours[Kind.SEARCH] = hangs()
    with pytest.raises(RemoteError, match=r"no answer within 0 s; is the PACS busy\?"):
        send_request(pacs, Kind.SEARCH, tmp_path)


def test_endless_pages_have_a_deadline(pacs: MaliciousPacs) -> None:
    numbers = iter(range(1, 10**9))

    def page(handler: object) -> None:
        responds_json([row("1.1", f"1.2.{next(numbers)}", "CT", 1)])(handler)  # type: ignore[arg-type]

    pacs.behaviours[Kind.SEARCH] = page
    with pytest.raises(RemoteError, match="the time for all of it is up"):
        Pacs(pacs.url).find_series("CT", deadline=time.monotonic() + 0.5)


def test_too_many_series(pacs: MaliciousPacs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacs_module, "MAX_SERIES", 10)
    monkeypatch.setattr(metadata_module, "MAX_SERIES", 100)
    rows = [row("1.1", f"1.2.{number}", "CT", 1) for number in range(1, 12)]
    pacs.behaviours[Kind.SEARCH] = responds_json(rows)
    with pytest.raises(InvalidResponseError, match=r"more than 10 CT series; narrow the search"):
        Pacs(pacs.url).find_series("CT")


def test_too_many_instances(pacs: MaliciousPacs, tmp_path: Path) -> None:
    pacs.behaviours[Kind.METADATA] = responds(200, b"[" + b"{}," * 60_000 + b"{}]", Content_Type=JSON)
    with pytest.raises(InvalidResponseError, match="more than 50000 instances"):
        send_request(pacs, Kind.METADATA, tmp_path)


CANCELLED: dict[str, Behaviour] = {
    "before the head": hangs(),
    "in the head": drips_headers(interval_s=0.2),
    "in the body": drips(MULTIPART, PART, interval_s=0.2),
    "before another attempt": responds(503),
}


@pytest.mark.parametrize("behaviour", CANCELLED.values(), ids=CANCELLED)
def test_a_cancelled_fetch_ends_soon_and_frees_its_locks(
    pacs: MaliciousPacs, tmp_path: Path, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.dicom.remote.session.FIRST_PAUSE_S", 30.0)
    pacs.behaviours[Kind.INSTANCE] = behaviour
    cache = SeriesCache(tmp_path, Pacs(pacs.url), limit_bytes=10**9)
    series = series_in(cache)
    ended_in = time_until_cancelled(pacs, lambda cancelled: cache.holding(series, cancelled=cancelled))
    assert ended_in < CANCELLED_TIMEOUT_S
    pacs.behaviours.clear()
    with pytest.raises(CT2PETError, match="no longer in the PACS"), cache.holding(series):  # the lock is free
        pass
    assert not list(tmp_path.rglob("*.part"))


def series_in(cache: SeriesCache) -> Series:
    files = tuple(cache.folder_of("1.2") / f"1.2.{k}.dcm" for k in range(1, 20))
    return Series("1.2", "1.1", "P1", "CT", "1.9", "", files)


def time_until_cancelled(pacs: MaliciousPacs, enter: Callable[..., object]) -> float:
    """Return the seconds from the cancellation to the exception."""
    cancelled_at = 0.0

    def cancelled() -> bool:
        nonlocal cancelled_at
        if not cancelled_at and pacs.requests[Kind.INSTANCE] >= 1:
            cancelled_at = time.monotonic()
        return bool(cancelled_at)

    with pytest.raises(FetchCancelledError), enter(cancelled):  # type: ignore[attr-defined]
        pass
    return time.monotonic() - cancelled_at


def test_connecting_can_be_cancelled(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(8):  # the queue of those that are not accepted is full: another SYN is not answered
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
            waiting.append(one)
        client = Pacs(f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web")
        began = time.monotonic()
        cancelled_event = threading.Event()
        threading.Timer(0.3, cancelled_event.set).start()
        with pytest.raises(FetchCancelledError):
            client.fetch("1.1", "1.2", "1.3", tmp_path / "1.3.dcm", cancelled=cancelled_event.is_set)
        assert time.monotonic() - began < 0.3 + CANCELLED_TIMEOUT_S
        for one in waiting:
            one.close()


@pytest.mark.usefixtures("impatient")
def test_series_has_a_deadline(pacs: MaliciousPacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single instances are fast enough, all of them together are not."""
    monkeypatch.setattr(cache_module, "SERIES_TIMEOUT_S", 0.6)
    monkeypatch.setattr(cache_module, "SLICE_TIMEOUT_S", 0.0)
    pacs.behaviours[Kind.INSTANCE] = drips(MULTIPART, PART, interval_s=0.1)
    cache = SeriesCache(tmp_path, Pacs(pacs.url), limit_bytes=10**9)
    with (
        pytest.raises(RemoteError, match=r"time for all of it is up|has not come within"),
        cache.holding(series_in(cache)),
    ):
        pass


def test_cookies_are_not_stored(pacs: MaliciousPacs, tmp_path: Path) -> None:
    pacs.behaviours[Kind.SEARCH] = responds(200, b"[]", Content_Type=JSON, Set_Cookie="a=" + "x" * 1000)
    client = Pacs(pacs.url)
    client.find_series("CT")
    assert not client._session.cookies


def test_redirect_is_reported_with_the_host_only(pacs: MaliciousPacs, tmp_path: Path) -> None:
    for to, named in (
        ("https://sso.example/login?token=secret", "https://sso.example:443"),
        ("http://[x", "elsewhere"),
    ):
        pacs.behaviours[Kind.SEARCH] = redirects(to=to)
        with pytest.raises(RemoteError, match=f"redirects to {named}, which is not followed") as refusal:
            send_request(pacs, Kind.SEARCH, tmp_path)
        assert "secret" not in str(refusal.value)
