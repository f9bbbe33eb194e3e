"""How long somebody waits who guesses passwords, by a clock that the test sets."""

from __future__ import annotations

import pytest

from ct2pet_app.auth.login_throttle import MAX_KEPT, Attempts, TooManyAttemptsError

HERE, THERE = "192.0.2.7", "198.51.100.9"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def wait_s(attempts: Attempts, address: str = HERE, name: str = "ada") -> int:
    """Return how long a try has to wait; 0 where it was made."""
    try:
        attempts.begin(address, name)
    except TooManyAttemptsError as error:
        return error.wait_s
    return 0


def test_four_wrong_passwords_cost_nothing(attempts: Attempts) -> None:
    assert [wait_s(attempts) for _ in range(5)] == [0, 0, 0, 0, 0]


def test_waits_double_up_to_five_minutes(attempts: Attempts, clock: Clock) -> None:
    for _ in range(5):
        attempts.begin(HERE, "ada")
    waits = []
    for _ in range(9):
        waits.append(wait_s(attempts))
        clock.now += waits[-1]
        attempts.begin(HERE, "ada")
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_try_during_the_wait_makes_it_no_longer(attempts: Attempts, clock: Clock) -> None:
    for _ in range(5):
        attempts.begin(HERE, "ada")
    assert [wait_s(attempts) for _ in range(20)] == [5] * 20
    clock.now += 5
    assert wait_s(attempts) == 0


def test_the_right_password_starts_anew(attempts: Attempts) -> None:
    for _ in range(4):
        attempts.begin(HERE, "ada")
    attempts.begin(HERE, "ada")
    attempts.succeeded(HERE, "ada")
    assert [wait_s(attempts) for _ in range(5)] == [0, 0, 0, 0, 0]


def test_who_tries_from_elsewhere_locks_nobody_out(attempts: Attempts) -> None:
    for _ in range(100):
        wait_s(attempts, THERE, "ada")
    assert wait_s(attempts, HERE, "ada") == 0


def test_one_name_after_the_other_is_noticed_too(attempts: Attempts) -> None:
    assert [wait_s(attempts, HERE, f"name{number}") for number in range(50)] == [0] * 50
    assert wait_s(attempts, HERE, "name50") == 5
    assert wait_s(attempts, THERE, "name50") == 0


def test_an_account_of_ones_own_does_not_hide_the_tries_under_others(attempts: Attempts) -> None:
    for number in range(49):
        attempts.begin(HERE, f"name{number}")
        attempts.begin(HERE, "mine")
        attempts.succeeded(HERE, "mine")
    attempts.begin(HERE, "name49")
    assert wait_s(attempts, HERE, "name50") == 5


def test_many_who_log_in_from_one_address_wait_for_nothing(attempts: Attempts) -> None:
    for number in range(200):
        attempts.begin(HERE, f"name{number}")
        attempts.succeeded(HERE, f"name{number}")
    assert wait_s(attempts) == 0


def test_a_quarter_of_an_hour_forgets(attempts: Attempts, clock: Clock) -> None:
    for _ in range(5):
        attempts.begin(HERE, "ada")
    clock.now += 901
    assert [wait_s(attempts) for _ in range(5)] == [0, 0, 0, 0, 0]


def test_addresses_of_one_ipv6_network_are_one(attempts: Attempts) -> None:
    for number in range(5):
        attempts.begin(f"2001:db8:1:2::{number}", "ada")
    assert wait_s(attempts, "2001:db8:1:2:ffff::1") == 5
    assert wait_s(attempts, "2001:db8:1:3::1") == 0


def test_names_and_addresses_without_end_fill_no_memory(attempts: Attempts) -> None:
    for number in range(2 * MAX_KEPT):
        wait_s(attempts, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "n" * 10_000 + str(number))
    assert len(attempts) == MAX_KEPT
    assert max(len(name) for _, name in attempts._tries) == 64
