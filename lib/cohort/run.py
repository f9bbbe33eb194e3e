"""Run a cohort: give pending studies to an engine, record each outcome, and go on until nothing is left to do."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from lib.cohort.case import Case
from lib.cohort.engine import Engine, Progressing, Work
from lib.cohort.local_engine import load_synthesizer
from lib.cohort.manifest import DONE, FAILED, PENDING, UNUSABLE, Manifest
from lib.cohort.outcome import Failure, Outcome, StudyResult
from lib.cohort.plan import PlannedCase
from lib.cohort.settings import Identity, ModelFile, StudyContext, StudySettings
from lib.errors import InputError, OutputError, RemoteError
from lib.synthesis.dicom_out import ModelLabel
from lib.types import Progress, no_progress

logger = logging.getLogger(__name__)

LOCK = ".cohort.lock"
MAX_LOSSES = 5  # attempts at one study that end with their worker; then the study may be what kills it
MAX_FAILURES_IN_A_ROW = 8  # studies that the disk or the PACS fails, after which the run stops: the others would, too
RECORD_INTERVAL_S = 5.0  # between two records of a run's duration


@dataclass(frozen=True)
class CohortRun:
    """What one run did.

    Attributes:
        counts: Studies of the cohort by state, at its end.
        before: Studies that were done already.
        done: Studies that this run finished.
        retried: Attempts that followed a failure or a loss.
        lost: Attempts that ended with their worker.
        seconds: Duration without planning.
        is_stopped: Whether the user stopped it.
    """

    counts: dict[str, int]
    before: int
    done: int
    retried: int
    lost: int
    seconds: float
    is_stopped: bool

    @property
    def has_only_failed(self) -> bool:
        """Whether studies failed, and none is done."""
        return bool(self.counts[FAILED]) and not self.counts[DONE]


@dataclass
class _Attempts:
    """What this run has tried, to decide whether a study is tried again."""

    retries: int
    failures: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    begun: Counter[str] = field(default_factory=Counter)
    running: set[str] = field(default_factory=set)
    failed_in_a_row: set[str] = field(default_factory=set)  # because of the disk or the PACS

    def is_again(self, outcome: Outcome) -> bool:
        """Return whether a study is tried again after this outcome."""
        uid, result = outcome.ct_uid, outcome.result
        self.running.discard(uid)
        if isinstance(result, StudyResult):
            self.failed_in_a_row.clear()
            return False
        if result is None:
            self.losses[uid] += 1
            return self.losses[uid] < MAX_LOSSES
        self.failures[uid] += 1
        if result.is_of_machine:
            self.failed_in_a_row.add(uid)
        else:
            self.failed_in_a_row.clear()
        return not result.is_final and self.failures[uid] <= self.retries


def run_cohort(
    plan: Iterable[PlannedCase],
    models: Sequence[Path],
    settings: StudySettings,
    engine: Engine,
    *,
    engine_name: str,
    retries: int = 1,
    workers: int = 0,
    threads: int = 1,
    progress: Progress = no_progress,
) -> CohortRun:
    """Synthesise the PETs of all planned CTs that are not done, and return what was done.

    The first Ctrl-C or SIGTERM lets the begun studies finish; the second abandons them. The same call goes on.

    Args:
        plan: The CTs; see `lib.cohort.plan`.
        models: The checkpoints.
        settings: Of every study.
        engine: Works on the studies.
        engine_name: Of the engine, for the record.
        retries: How often a study that fails is tried again.
        workers: Number of synthesizers; 0 for as many as the machines allow.
        threads: Processors of each.
        progress: Called after every study.

    Raises:
        InputError: The folder is in use by another run, or belongs to other weights or settings.
        CheckpointError: A model cannot be loaded.
        OutputError, RemoteError: The disk is full, or the PACS is gone; the remaining studies are pending.
    """
    identity = Identity.of(models, settings)
    files = [ModelFile.read(path) for path in models]
    model = load_synthesizer(
        files, StudySettings(settings.out, device="cpu")
    )  # fails early, on a machine without a GPU, too
    context = StudyContext(settings, ModelLabel.of(model), model.card)
    del model
    with _locked(settings.out), Manifest.create(settings.out, identity) as manifest, _stop_signals() as stopped:
        manifest.plan(plan)
        manifest.forget_missing()
        driver = _Driver(manifest, identity.weights, retries, stopped, progress)
        return driver.run(engine, Work(driver.take, context, files, stopped.is_set, workers, threads), engine_name)


class _Driver:
    """Gives studies to an engine and records their outcomes."""

    def __init__(
        self, manifest: Manifest, weights: str, retries: int, stopped: threading.Event, progress: Progress
    ) -> None:
        self._manifest = manifest
        self._weights = weights
        self._attempts = _Attempts(retries)
        self._stopped = stopped
        self._progress = progress
        self._ended_by: OutputError | RemoteError | None = None
        self._done = 0

    def take(self) -> Case | None:
        """Return the next study, which is running from now on."""
        case = self._manifest.take()
        if case is not None:
            self._attempts.begun[case.ct_uid] += 1
            self._attempts.running.add(case.ct_uid)
        return case

    def run(self, engine: Engine, work: Work, engine_name: str) -> CohortRun:
        """Run the engine until it ends, and return what was done."""
        counts = self._manifest.counts()
        before, total = counts[DONE], sum(counts.values()) - counts[UNUSABLE]
        began = time.monotonic()
        self._progress(before, total, "synthesising")
        if counts[PENDING]:  # else an engine would start for nothing
            self._work_through(engine(work), engine_name, lambda done: self._progress(done, total, "synthesising"))
        seconds = time.monotonic() - began
        if self._ended_by is not None:
            raise self._ended_by
        attempts = self._attempts
        return CohortRun(
            counts=self._manifest.counts(),
            before=before,
            done=self._done,
            retried=sum(attempts.begun.values()) - len(attempts.begun),
            lost=sum(attempts.losses.values()),
            seconds=seconds,
            is_stopped=self._stopped.is_set(),
        )

    def _work_through(self, outcomes: Progressing, engine_name: str, show: Callable[[int], None]) -> None:
        """Record the outcomes of an engine until it ends."""
        number, began = self._manifest.begin_run(engine_name), time.monotonic()
        recorded, most, before = began, 0, self._manifest.counts()[DONE]
        try:
            with contextlib.closing(outcomes):
                for outcome, workers in outcomes:
                    most = max(most, workers)
                    if outcome is not None:
                        self._record(outcome)
                        show(before + self._done)
                    if time.monotonic() - recorded > RECORD_INTERVAL_S:
                        recorded = time.monotonic()
                        self._manifest.update_run(number, seconds=recorded - began, done=self._done, workers=most)
        finally:
            self._manifest.put_back(self._attempts.running)
            seconds = time.monotonic() - began
            self._manifest.update_run(number, seconds=seconds, done=self._done, workers=most)

    def _record(self, outcome: Outcome) -> None:
        again = self._attempts.is_again(outcome)
        self._manifest.record(outcome, weights=self._weights, again=again)
        self._done += isinstance(outcome.result, StudyResult)
        if isinstance(outcome.result, StudyResult):
            logger.debug("series %s: done in %.1f s", outcome.ct_uid, sum(outcome.seconds.values()))
            return
        reason = outcome.result.reason if outcome.result else "its worker was killed, or its machine failed"
        named = reason if outcome.ct_uid in reason else f"series {outcome.ct_uid}: {reason}"
        logger.warning("%s%s", named, "; it is tried again" if again else "")
        if len(self._attempts.failed_in_a_row) >= MAX_FAILURES_IN_A_ROW and isinstance(outcome.result, Failure):
            self._stopped.set()
            kind = RemoteError if outcome.result.code == RemoteError.code else OutputError
            self._ended_by = kind(
                f"stopped after {MAX_FAILURES_IN_A_ROW} studies failed one after another, the last: {reason}; what is "
                "done is kept: remove the cause, and run the same command again to go on"
            )


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock of a cohort's folder, which ends with the process."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{out}: another process is running this cohort; wait for its end, or name another output folder",
            code="cohort_in_use",
        ) from error
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); name a writable folder") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the second raises KeyboardInterrupt."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        """Stop at the first signal, interrupt at the second."""
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()
        logger.warning("stopping: the begun studies are finished first; once more abandons them")

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    usual: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
