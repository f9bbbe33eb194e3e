"""Active jobs: a timer of the window drains their events, so that no handler ever blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.jobs.job import Job, State

OnEvent = Callable[[Any], None]
OnEnd = Callable[[Job], None]


@dataclass(frozen=True)
class JobResult:
    """Result of a job that makes a single call."""

    value: Any


class JobRunner:
    """Jobs that were started and are not over. Use it in the window's thread only."""

    def __init__(self, on_error: Callable[[str], None]) -> None:
        """Create a runner; `on_error` gets the message of a failed call that has no handler of its own."""
        self._on_error = on_error
        self._jobs: list[tuple[Job, OnEvent, OnEnd]] = []

    def start(self, job: Job, on_event: OnEvent, on_end: OnEnd) -> None:
        """Start a job; call `on_event` for each of its events and `on_end` once it is over."""
        self._jobs.append((job, on_event, on_end))
        job.start()

    def submit(
        self,
        client: Client,
        call: Callable[[Client], Any],
        on_result: Callable[[Any], None],
        *,
        on_error: Callable[[str], None] | None = None,
    ) -> Job:
        """Run a call in a job of its own; pass its result to `on_result` or its message to `on_error`. Return the job.

        Args:
            client: Client of the server.
            call: Called in the worker thread with a copy of the client.
            on_result: Called in the window's thread with what `call` returned.
            on_error: Called in the window's thread with a message; the runner's own handler by default.
        """
        job = Job(client, lambda job_client, emit: emit(JobResult(call(job_client))))

        def on_end(ended: Job) -> None:
            """Report a failure."""
            if ended.state is State.FAILED:
                (on_error or self._on_error)(ended.message)

        self.start(job, lambda result: on_result(result.value), on_end)
        return job

    def tick(self) -> None:
        """Dispatch the events since the last call. Call it from a timer."""
        for entry in list(self._jobs):
            job, on_event, on_end = entry
            for event in job.drain():
                on_event(event)
            if job.state.is_over:
                self._jobs.remove(entry)
                on_end(job)

    def cancel_all(self) -> None:
        """Cancel every job, as when the module is closed."""
        for job, _, _ in self._jobs:
            job.cancel()
        self._jobs.clear()
