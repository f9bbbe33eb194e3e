"""What an engine is: a function that takes studies, works on several at once, and yields their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lib.cohort.case import Case
from lib.cohort.outcome import Outcome
from lib.cohort.settings import ModelFile, StudyContext

POLL_INTERVAL_S = 0.5  # how often an engine checks whether it is to stop, and for new workers


@dataclass(frozen=True)
class Work:
    """What an engine is given.

    Attributes:
        take: Returns the next study; None if there is none at the moment. A study that is to be tried again is
            returned again after its outcome was yielded.
        context: Of every study.
        models: The checkpoints.
        stopped: Whether to begin no further study.
        workers: Number of synthesizers; 0 for as many as the machines allow.
        threads: Processors of each synthesizer.
    """

    take: Callable[[], Case | None]
    context: StudyContext
    models: Sequence[ModelFile]
    stopped: Callable[[], bool]
    workers: int = 0
    threads: int = 1


Progressing = Generator[tuple[Outcome | None, int], None, None]  # outcomes, with the number of workers


class Engine(Protocol):
    """Works on studies until `take` returns None, or `stopped` is true and the begun studies are finished.

    Yields the outcome of every attempt, and between them None with the number of workers, at least once a second.
    """

    def __call__(self, work: Work) -> Progressing: ...
