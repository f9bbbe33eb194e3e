"""Waiting times after wrong passwords, measured with a clock that the test sets."""

from __future__ import annotations

import pytest

from ct2pet_app.auth.login_throttle import MAX_TRACKED, LoginThrottle, TooManyAttemptsError

HERE, THERE = "192.0.2.7", "198.51.100.9"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> LoginThrottle:
    return LoginThrottle(clock)


def wait_s(throttle: LoginThrottle, client: str = HERE, name: str = "ada") -> int:
    """Return how long an attempt has to wait; 0 if it was accepted."""
    try:
        throttle.begin(client, name)
    except TooManyAttemptsError as error:
        return error.wait_s
    return 0


def test_five_attempts_are_accepted_without_a_wait(throttle: LoginThrottle) -> None:
    assert [wait_s(throttle) for _ in range(5)] == [0, 0, 0, 0, 0]


def test_waits_double_up_to_five_minutes(throttle: LoginThrottle, clock: Clock) -> None:
    for _ in range(5):
        throttle.begin(HERE, "ada")
    waits = []
    for _ in range(9):
        waits.append(wait_s(throttle))
        clock.now += waits[-1]
        throttle.begin(HERE, "ada")
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_an_attempt_during_the_wait_does_not_extend_it(throttle: LoginThrottle, clock: Clock) -> None:
    for _ in range(5):
        throttle.begin(HERE, "ada")
    assert [wait_s(throttle) for _ in range(20)] == [5] * 20
    clock.now += 5
    assert wait_s(throttle) == 0


def test_a_correct_password_resets_the_count(throttle: LoginThrottle) -> None:
    for _ in range(4):
        throttle.begin(HERE, "ada")
    throttle.begin(HERE, "ada")
    throttle.succeed(HERE, "ada")
    assert [wait_s(throttle) for _ in range(5)] == [0, 0, 0, 0, 0]


def test_attempts_of_one_client_do_not_lock_out_another(throttle: LoginThrottle) -> None:
    for _ in range(100):
        wait_s(throttle, THERE, "ada")
    assert wait_s(throttle, HERE, "ada") == 0


def test_one_client_that_tries_many_accounts_has_to_wait(throttle: LoginThrottle) -> None:
    assert [wait_s(throttle, HERE, f"name{number}") for number in range(50)] == [0] * 50
    assert wait_s(throttle, HERE, "name50") == 5
    assert wait_s(throttle, THERE, "name50") == 0


def test_a_successful_login_does_not_hide_attempts_on_other_accounts(throttle: LoginThrottle) -> None:
    for number in range(49):
        throttle.begin(HERE, f"name{number}")
        throttle.begin(HERE, "mine")
        throttle.succeed(HERE, "mine")
    throttle.begin(HERE, "name49")
    assert wait_s(throttle, HERE, "name50") == 5


def test_many_successful_logins_from_one_address_cause_no_wait(throttle: LoginThrottle) -> None:
    for number in range(200):
        throttle.begin(HERE, f"name{number}")
        throttle.succeed(HERE, f"name{number}")
    assert wait_s(throttle) == 0


def test_failures_are_forgotten_after_fifteen_minutes(throttle: LoginThrottle, clock: Clock) -> None:
    for _ in range(5):
        throttle.begin(HERE, "ada")
    clock.now += 901
    assert [wait_s(throttle) for _ in range(5)] == [0, 0, 0, 0, 0]


def test_addresses_of_one_ipv6_network_count_together(throttle: LoginThrottle) -> None:
    for number in range(5):
        throttle.begin(f"2001:db8:1:2::{number}", "ada")
    assert wait_s(throttle, "2001:db8:1:2:ffff::1") == 5
    assert wait_s(throttle, "2001:db8:1:3::1") == 0


def test_memory_is_bounded(throttle: LoginThrottle) -> None:
    for number in range(2 * MAX_TRACKED):
        wait_s(throttle, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "n" * 10_000 + str(number))
    assert len(throttle) == MAX_TRACKED
    assert max(len(name) for _, name in throttle._failures) == 64
