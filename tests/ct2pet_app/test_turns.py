"""How many inferences are under way, and what becomes of one whose client went away."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest

from ct2pet_app import turns
from ct2pet_app.errors import BusyError, ClientGoneError, http_status
from ct2pet_app.turns import MOST_HELD, MOST_WAITING, Turns, until_gone, waited_for


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "ASK_EVERY_S", 0.01)


def test_of_twenty_requests_those_beyond_the_queue_are_told_to_come_again() -> None:
    both, answers, nobody_waits = Turns(), [], threading.Event()

    def ask() -> None:
        try:
            with both.taken(gone=nobody_waits.is_set):
                answers.append("held")
        except (BusyError, ClientGoneError) as error:
            answers.append(type(error).__name__)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    with ExitStack() as held:
        for _ in range(MOST_HELD):
            held.enter_context(both.taken())
        for thread in threads:
            thread.start()
        while len(answers) < 20 - (MOST_WAITING - MOST_HELD):
            time.sleep(0.01)
        assert set(answers) == {"BusyError"}
        nobody_waits.set()
        for thread in threads:
            thread.join()
    assert answers.count("ClientGoneError") == MOST_WAITING - MOST_HELD


def test_a_turn_is_given_back_after_an_error() -> None:
    both = Turns()
    for _ in range(MOST_WAITING + 1):
        with pytest.raises(ZeroDivisionError), both.taken():
            raise ZeroDivisionError


def test_who_has_gone_away_waits_for_no_lock() -> None:
    lock = threading.Lock()
    with lock, pytest.raises(ClientGoneError), waited_for(lock, lambda: True):
        pytest.fail("somebody else holds it")
    assert not lock.locked()


def test_work_for_nobody_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "ASK_EVERY_S", 0.0)
    with pytest.raises(ClientGoneError):
        until_gone(lambda: True)(1, 10, "synthesising")
    until_gone(lambda: False)(1, 10, "synthesising")


def test_busy_is_a_503() -> None:
    assert http_status(BusyError("x")) == 503
