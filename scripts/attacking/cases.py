"""Attacks that are measured one by one, on a server that is started again where one of them ends it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from scripts.attacking.result import HasStatus, Reply, Result, find_violation
from scripts.attacking.target import REQUEST_TIMEOUT_S, Target, target
from scripts.attacking.watch import Measured

Notify = Callable[[str], None]
ABANDONED = 0  # status of a request whose client gave up


def patiently(send: Callable[[], requests.Response]) -> HasStatus:
    """Return the response to a request, or what stands for it where the client gave up."""
    try:
        return send()
    except requests.Timeout:
        return Reply(ABANDONED, "")


class Cases:
    """Attacks on a server that is started again where one ends it."""

    def __init__(
        self,
        folder: Path,
        result: Result,
        *,
        said: Notify,
        memory_limit_gb: float,
        latency: bool,
        accounts: bool = False,
    ) -> None:
        self._folder, self._result, self._said, self._latency = folder, result, said, latency
        self._accounts, self._memory_limit_gb = accounts, memory_limit_gb
        self._stack: contextlib.ExitStack | None = None
        self._target: Target | None = None
        self._servers = 0

    def target(self) -> Target:
        """Return a server that lives."""
        if self._target is None or not self._target.is_alive():
            self.close()
            self._servers += 1
            self._stack = contextlib.ExitStack()
            own = self._folder / f"server-{self._servers}"
            self._target = self._stack.enter_context(
                target(own, accounts=self._accounts, memory_limit_gb=self._memory_limit_gb)
            )
        return self._target

    def close(self) -> None:
        """End the server."""
        if self._stack is not None:
            self._stack.close()
        self._stack, self._target = None, None

    def run(
        self,
        name: str,
        attack: Callable[[Target], list[HasStatus]],
        *,
        expected: Sequence[int] = (),
        may_last: bool = False,
    ) -> None:
        """Run one attack, note its figures and what was wrong.

        Args:
            expected: The only statuses allowed, where there are any.
            may_last: Whether the client may give up: it is an honest CT that takes long.
        """
        to = self.target()
        began = time.monotonic()
        responses: list[HasStatus] = []
        failure = ""
        with to.watched() as measured:
            try:
                responses = attack(to)
            except requests.RequestException as error:
                failure = f"no response: {type(error).__name__}"
        abandoned = any(response.status_code == ABANDONED for response in responses)
        if abandoned and not may_last:
            failure = f"no response within {REQUEST_TIMEOUT_S:.0f} s"
        row, wrong = _row(name, measured, responses, seconds=time.monotonic() - began, latency=self._latency)
        if failure:
            wrong.append(failure)
        if not to.is_alive():
            wrong.append(f"the server ended with {to.server.process.returncode}")
        statuses = {response.status_code for response in responses}
        if expected and not statuses <= set(expected):
            wrong.append(f"status {sorted(statuses)}, expected one of {list(expected)}")
        row["wrong"] = wrong
        self._result.rows.append(row)
        self._result.violations += [f"{name}: {sentence}" for sentence in wrong]
        self._said(
            f"{name}: {row['statuses']} {row['peak_beyond_rest_mb']} MB, /info/ {row['info_worst_s']} s {wrong or ''}"
        )
        if abandoned:  # what was given up may go on for long, and would be measured with the next attack
            self.close()


def _row(
    name: str, measured: Measured, responses: list[HasStatus], *, seconds: float, latency: bool
) -> tuple[dict[str, object], list[str]]:
    row = {
        "case": name,
        "statuses": [response.status_code for response in responses],
        "seconds": round(seconds, 2),
        **measured.figures(),
        "detail": next((response.text[:200] for response in responses if response.status_code != 200), ""),
    }
    wrong = [sentence for response in responses if (sentence := find_violation(response))]
    return row, wrong + measured.violations(latency=latency)
