"""Login throttle: how many wrong passwords are accepted before the client has to wait."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from cachetools import TTLCache

MAX_ATTEMPTS_PER_ACCOUNT = 5  # wrong ones in a row, from one client, before the first wait
MAX_ATTEMPTS_PER_CLIENT = 50  # for all accounts together: a whole hospital may share one address
MIN_WAIT_S, MAX_WAIT_S = 5.0, 300.0
RESET_AFTER_S = 900.0
MAX_TRACKED = 10_000

Key = tuple[str, str]


class TooManyAttemptsError(Exception):
    """The client has to wait `wait_s` seconds before its next attempt."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many wrong passwords: try again in {wait_s} s")
        self.wait_s = wait_s


class _Failures(NamedTuple):
    attempts: int = 0
    wait_until_s: float = 0.0


class LoginThrottle:
    """Counts attempts by client and account, and by client; waits double from 5 s to 5 min.

    Other clients are not affected, so that no client can lock an account. An attempt counts as failed until it is known
    to have succeeded, so that concurrent attempts are counted, too. Use from one thread only.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: TTLCache[Key, _Failures] = TTLCache(MAX_TRACKED, RESET_AFTER_S, timer=clock)

    def begin(self, client: str, name: str) -> None:
        """Count an attempt.

        Raises:
            TooManyAttemptsError: After too many attempts; this one is not counted, and must not be made.
        """
        now = self._clock()
        limits = _limits(client, name)
        failures = {key: self._failures.get(key, _Failures()) for key in limits}
        wait_s = max(failed.wait_until_s for failed in failures.values()) - now
        if wait_s > 0:
            raise TooManyAttemptsError(math.ceil(wait_s))
        for key, limit in limits.items():
            count = failures[key].attempts + 1
            wait_s = min(MIN_WAIT_S * 2 ** min(count - limit, 10), MAX_WAIT_S) if count >= limit else 0.0
            self._failures[key] = _Failures(count, now + wait_s)

    def succeed(self, client: str, name: str) -> None:
        """Take back an attempt that succeeded; those for other accounts stay counted."""
        of_account, of_client = _limits(client, name)
        self._failures.pop(of_account, None)
        failed = self._failures.get(of_client, _Failures())
        count = max(0, failed.attempts - 1)
        self._failures[of_client] = _Failures(count, failed.wait_until_s if count >= MAX_ATTEMPTS_PER_CLIENT else 0.0)

    def __len__(self) -> int:
        return len(self._failures)


def _limits(client: str, name: str) -> dict[Key, int]:
    network = _network(client)
    return {(network, name[:64] or "?"): MAX_ATTEMPTS_PER_ACCOUNT, (network, ""): MAX_ATTEMPTS_PER_CLIENT}


def _network(client: str) -> str:
    """Return the address, or the /64 network of an IPv6 address: clients can choose any address in theirs."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))
