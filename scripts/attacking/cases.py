"""Run attacks one by one on a server, which is restarted if an attack ends it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from scripts.attacking.result import HasStatus, Reply, Result, find_violation
from scripts.attacking.target import REQUEST_TIMEOUT_S, Target, running_target
from scripts.attacking.watch import Measured

Notify = Callable[[str], None]
TIMED_OUT = 0  # stands for the status of a request that timed out


def send_or_time_out(send: Callable[[], requests.Response]) -> HasStatus:
    """Return the response to a request, or a reply with status `TIMED_OUT` after a timeout."""
    try:
        return send()
    except requests.Timeout:
        return Reply(TIMED_OUT, "")


class Cases:
    """Runs attacks and records their results in `result`; restarts the server if an attack ends it."""

    def __init__(
        self,
        folder: Path,
        result: Result,
        *,
        notify: Notify,
        memory_limit_gb: float,
        latency: bool,
        accounts: bool = False,
    ) -> None:
        self._folder, self._result, self._said, self._latency = folder, result, notify, latency
        self._accounts, self._memory_limit_gb = accounts, memory_limit_gb
        self._stack: contextlib.ExitStack | None = None
        self._target: Target | None = None
        self._servers = 0

    def target(self) -> Target:
        """Return the running server; start a new one if it has ended."""
        if self._target is None or not self._target.is_alive():
            self.close()
            self._servers += 1
            self._stack = contextlib.ExitStack()
            own = self._folder / f"server-{self._servers}"
            self._target = self._stack.enter_context(
                running_target(own, accounts=self._accounts, memory_limit_gb=self._memory_limit_gb)
            )
        return self._target

    def close(self) -> None:
        """Stop the server."""
        if self._stack is not None:
            self._stack.close()
        self._stack, self._target = None, None

    def run(
        self,
        name: str,
        attack: Callable[[Target], Sequence[HasStatus]],
        *,
        expected: Sequence[int] = (),
        may_time_out: bool = False,
    ) -> None:
        """Run one attack and record its metrics and violations.

        Args:
            expected: Allowed statuses; any status if empty.
            may_time_out: Whether a timeout is allowed: a valid CT may take long.
        """
        target = self.target()
        began = time.monotonic()
        responses: Sequence[HasStatus] = []
        failure = ""
        with target.watched() as measured:
            try:
                responses = attack(target)
            except requests.RequestException as error:
                failure = f"no response: {type(error).__name__}"
        timed_out = any(response.status_code == TIMED_OUT for response in responses)
        if timed_out and not may_time_out:
            failure = f"no response within {REQUEST_TIMEOUT_S:.0f} s"
        row, wrong = _row(name, measured, responses, seconds=time.monotonic() - began, latency=self._latency)
        if failure:
            wrong.append(failure)
        if not target.is_alive():
            wrong.append(f"the server ended with {target.server.process.poll()}")
        statuses = {response.status_code for response in responses}
        if expected and not statuses <= set(expected):
            wrong.append(f"status {sorted(statuses)}, expected one of {list(expected)}")
        row["wrong"] = wrong
        self._result.rows.append(row)
        self._result.violations += [f"{name}: {sentence}" for sentence in wrong]
        self._said(
            f"{name}: {row['statuses']} {row['peak_beyond_rest_mb']} MB, /info/ {row['info_worst_s']} s {wrong or ''}"
        )
        if timed_out:  # the abandoned work may continue and would distort the next measurement
            self.close()


def _row(
    name: str, measured: Measured, responses: Sequence[HasStatus], *, seconds: float, latency: bool
) -> tuple[dict[str, object], list[str]]:
    row = {
        "case": name,
        "statuses": [response.status_code for response in responses],
        "seconds": round(seconds, 2),
        **measured.metrics(),
        "detail": next((response.text[:200] for response in responses if response.status_code != 200), ""),
    }
    wrong = [sentence for response in responses if (sentence := find_violation(response))]
    return row, wrong + measured.violations(latency=latency)
