"""What becomes of a request whose client has disconnected, and of work that waits for requests."""

from __future__ import annotations

import threading

import pytest

from ct2pet_app.errors import BusyError, ClientDisconnectedError, http_status
from ct2pet_app.server import concurrency
from ct2pet_app.server.concurrency import ForegroundWork, until_disconnected, waited_for
from lib.errors import MemoryLimitError, OperationCancelledError


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "POLL_INTERVAL_S", 0.01)


def test_a_disconnected_client_waits_for_no_lock() -> None:
    lock = threading.Lock()
    with lock, pytest.raises(ClientDisconnectedError), waited_for(lock, lambda: True):
        pytest.fail("somebody else holds it")
    assert not lock.locked()


def test_work_ends_when_its_client_has_disconnected() -> None:
    with pytest.raises(ClientDisconnectedError):
        until_disconnected(lambda: True)(1, 10, "synthesising")
    until_disconnected(lambda: False)(1, 10, "synthesising")


@pytest.mark.parametrize(
    ("error", "status"),
    [(BusyError, 503), (MemoryLimitError, 413), (ClientDisconnectedError, 499), (OperationCancelledError, 499)],
)
def test_each_end_has_its_status(error: type[Exception], status: int) -> None:
    assert http_status(error("x")) == status  # type: ignore[arg-type]


def test_background_work_waits_for_the_last_request() -> None:
    foreground, steps = ForegroundWork(), []
    waiting = foreground.yielding(limit_s=60)

    def work() -> None:
        for number in range(3):
            waiting(number, 3, "reading")
            steps.append(number)

    background = threading.Thread(target=work)
    with foreground.request():
        with foreground.request():
            background.start()
        background.join(timeout=0.2)
        assert background.is_alive() and not steps
    background.join(timeout=60)
    assert steps == [0, 1, 2]


def test_background_work_goes_on_beside_endless_requests() -> None:
    foreground = ForegroundWork()
    waiting = foreground.yielding(limit_s=0.05)
    steps = []
    with foreground.request():
        for number in range(3):
            waiting(number, 3, "reading")
            steps.append(number)
    assert steps == [0, 1, 2]
