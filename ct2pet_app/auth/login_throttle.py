"""How often somebody may try a password before having to wait."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

TRIES_OF_A_NAME = 5  # wrong ones in a row, from one address, before the first wait
TRIES_OF_AN_ADDRESS = 50  # under any names: a hospital behind one address has more than one who mistypes
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0
FORGOTTEN_AFTER_S = 900.0
MAX_KEPT = 10_000

Key = tuple[str, str]


class TooManyAttemptsError(Exception):
    """Not now; `wait_s` says when."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many wrong passwords: try again in {wait_s} s")
        self.wait_s = wait_s


@dataclass
class _Tries:
    count: int = 0
    last_s: float = 0.0
    wait_until_s: float = 0.0


class Attempts:
    """Counts tries by address and name, and by address; waits double from 5 s to 5 min.

    Who tries from elsewhere waits for nobody: a name cannot be locked out by trying it. A try counts as wrong from its
    beginning until it is known to be right, so that a hundred at the same time are not one. For use on one thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[Key, _Tries] = OrderedDict()

    def begin(self, address: str, name: str) -> None:
        """Count a try.

        Raises:
            TooManyAttemptsError: Too many before; this one is not counted, and must not be made.
        """
        now = self._clock()
        limits = self._limits(address, name)
        wait_s = max(self._of(key, now).wait_until_s - now for key in limits)
        if wait_s > 0:
            raise TooManyAttemptsError(math.ceil(wait_s))
        for key, allowed in limits.items():
            tries = self._of(key, now)
            tries.count, tries.last_s = tries.count + 1, now
            if tries.count >= allowed:
                doublings = min(tries.count - allowed, 10)
                tries.wait_until_s = now + min(FIRST_WAIT_S * 2**doublings, LONGEST_WAIT_S)

    def succeeded(self, address: str, name: str) -> None:
        """Take a try back that was right; those under other names stay counted."""
        of_name, of_address = self._limits(address, name)
        self._tries.pop(of_name, None)
        tries = self._tries.get(of_address)
        if tries is not None:
            tries.count = max(0, tries.count - 1)
            if tries.count < TRIES_OF_AN_ADDRESS:
                tries.wait_until_s = 0.0

    def __len__(self) -> int:
        return len(self._tries)

    def _limits(self, address: str, name: str) -> dict[Key, int]:
        network = _network(address)
        return {(network, name[:64] or "?"): TRIES_OF_A_NAME, (network, ""): TRIES_OF_AN_ADDRESS}

    def _of(self, key: Key, now: float) -> _Tries:
        tries = self._tries.get(key)
        if tries is None or now - tries.last_s > FORGOTTEN_AFTER_S:
            tries = self._tries[key] = _Tries()
        self._tries.move_to_end(key)
        while len(self._tries) > MAX_KEPT:
            self._tries.popitem(last=False)
        return tries


def _network(address: str) -> str:
    """Return the address, of IPv6 its /64: whoever has one address there has all of them."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(known) if known.version == 4 else str(ipaddress.ip_network((known, 64), strict=False))
