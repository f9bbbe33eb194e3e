"""Signals that end the server also end what waits for its datastore."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from monailabel.interfaces.app import MONAILabelApp

from ct2pet_app.app import CT2PETApp

CLOSE_TIMEOUT_S = 10.0


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """The signals that reach the handler of the web server, which is installed first."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, _: received.append(number))
              for number in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_ends_closes_its_datastore(
    make_app: Callable[..., CT2PETApp], handled: list[int], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, closed = make_app(), threading.Event()
    monkeypatch.setattr("ct2pet_app.app.running_server", FastAPI)
    monkeypatch.setattr(MONAILabelApp, "on_init_complete", lambda _: None)
    monkeypatch.setattr(app.studies_datastore, "close", closed.set)
    app.on_init_complete()
    try:
        signal.raise_signal(number)
        assert closed.wait(CLOSE_TIMEOUT_S)
    finally:
        app.studies_datastore.pairs.close()
    assert handled == [number]
