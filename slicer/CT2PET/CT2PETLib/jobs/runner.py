"""The jobs under way: a timer of the window drains them, so that no handler ever waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.jobs.job import Job, State

Come = Callable[[Any], None]
Over = Callable[[Job], None]


@dataclass(frozen=True)
class Outcome:
    """What a job that asks one thing has found."""

    value: Any


class JobRunner:
    """Jobs that have been started and are not over. All of it in the thread of the window."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        """`failed` is told the sentence of a job that failed, where nobody else wants it."""
        self._failed = failed
        self._jobs: list[tuple[Job, Come, Over]] = []

    def start(self, job: Job, come: Come, over: Over) -> None:
        """Start a job; `come` is told of what comes of it, `over` once that nothing more will."""
        self._jobs.append((job, come, over))
        job.start()

    def ask(
        self,
        client: Client,
        question: Callable[[Client], Any],
        answered: Callable[[Any], None],
        *,
        failed: Callable[[str], None] | None = None,
    ) -> Job:
        """Ask one thing beside the window, and tell `answered` the answer, or `failed` a sentence; return the job."""
        job = Job(client, lambda asker, tell: tell(Outcome(question(asker))))

        def over(ended: Job) -> None:
            """Tell why it failed."""
            if ended.state is State.FAILED:
                (failed or self._failed)(ended.sentence)

        self.start(job, lambda outcome: answered(outcome.value), over)
        return job

    def tick(self) -> None:
        """Tell of what has come since the last time; called by a timer."""
        for entry in list(self._jobs):
            job, come, over = entry
            for what in job.drain():
                come(what)
            if job.state.is_over:
                self._jobs.remove(entry)
                over(job)

    def cancel_all(self) -> None:
        """Ask every job to end, as when the module is closed."""
        for job, _, _ in self._jobs:
            job.cancel()
        self._jobs.clear()
