"""The engine `ray`: synthesizers as actors, one a GPU or share of the processors, each with a reader and writer.

The reader and writer is another process on the same machine, so that volumes stay there. Each synthesizer has at most
`CASES_EACH` studies: one that is read, one in the network, one that is written. A study counts until it is written, so
that a slow disk or PACS slows down the reading, and memory does not depend on the size of the cohort. Volumes are in
Ray's object store; the driver sees outcomes only.

A killed worker or machine loses the studies that it had, which are taken again. A synthesizer that died is replaced as
soon as a machine has room. New machines get synthesizers when they join.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from lib.cohort.case import Case
from lib.cohort.engine import POLL_INTERVAL_S, Progressing, Work
from lib.cohort.outcome import Outcome
from lib.cohort.ray_cluster import connected_cluster, synthesizer_resources, synthesizers_that_fit
from lib.cohort.ray_workers import READER_WRITER, SYNTHESIZER, ReaderWriterActor, SynthesizerActor
from lib.errors import ClusterError

logger = logging.getLogger(__name__)

CASES_EACH = 3
MAX_FAILED_STARTS = 10  # of synthesizers, one after another, after which the run ends


@dataclass
class _Synthesizer:
    """A synthesizer with its reader and writer, once its machine is known, and how many studies they have."""

    actor: Any
    reader_writer: Any = None
    studies: int = 0


@dataclass
class _Pool:
    """The synthesizers: those that are ready, and those that are starting or may be dead."""

    ready: list[_Synthesizer] = field(default_factory=list)
    starting: dict[Any, _Synthesizer] = field(default_factory=dict)  # by the reference of what `start` returns
    failed_starts: int = 0  # one after another

    @property
    def size(self) -> int:
        """Number of synthesizers, with those that are starting."""
        return len(self.ready) + len(self.starting)

    def start(self, synthesizer: _Synthesizer, actor: Any) -> None:
        """Count a synthesizer as starting until this actor of it answers."""
        self.starting[actor.start.remote()] = synthesizer

    def free(self) -> _Synthesizer | None:
        """Return the ready synthesizer with the fewest studies; None if all have enough."""
        best = min(self.ready, key=lambda one: one.studies, default=None)
        return None if best is None or best.studies >= CASES_EACH else best


def run_on_ray(work: Work, *, address: str) -> Progressing:
    """Yield the outcomes of studies that a Ray cluster works on; see `lib.cohort.engine.Engine`.

    Args:
        work: The studies.
        address: `ray` for the cluster of RAY_ADDRESS, or one that is started here; or `ray://HOST:PORT`.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """
    with connected_cluster(address) as ray:
        yield from _Scheduler(ray, work).outcomes()


class _Scheduler:
    """Starts synthesizers, and gives each its studies."""

    def __init__(self, ray: Any, work: Work) -> None:
        self._ray = ray
        self._work = work
        self._resources = synthesizer_resources(ray, work.context.settings.device, threads=work.threads)
        self._context = ray.put(work.context)
        self._models = ray.put(tuple(work.models))
        self._synthesizer = ray.remote(**SYNTHESIZER, **self._resources)(SynthesizerActor)
        self._reader_writer = ray.remote(**READER_WRITER)(ReaderWriterActor)
        self._pool = _Pool()
        self._running: dict[Any, tuple[Case, _Synthesizer]] = {}  # by the reference of the outcome

    def outcomes(self) -> Progressing:
        """Yield the outcomes until nothing is left to take, or the work is stopped."""
        while True:
            self._start_synthesizers()
            has_more = self._submit()
            if not self._running and not has_more:
                return
            waited = [*self._running, *self._pool.starting]
            done, _ = self._ray.wait(waited, num_returns=1, timeout=POLL_INTERVAL_S)
            finished = [self._end(reference) for reference in done]
            yield from ((outcome, len(self._pool.ready)) for outcome in finished if outcome is not None)
            if not any(finished):
                yield None, len(self._pool.ready)

    def _start_synthesizers(self) -> None:
        """Start as many as the user wants, or as the machines that have joined so far allow."""
        wanted = self._work.workers or synthesizers_that_fit(self._ray, self._resources)
        while self._pool.size < max(wanted, 1):
            actor = self._synthesizer.remote(self._models, self._context)
            self._pool.start(_Synthesizer(actor), actor)

    def _submit(self) -> bool:
        """Give studies to synthesizers that have room; return whether there may be more."""
        if self._work.stopped():
            return False
        while (synthesizer := self._pool.free()) is not None:
            case = self._work.take()
            if case is None:
                return False
            study = synthesizer.reader_writer.read.remote(case)
            synthesized = synthesizer.actor.synthesize.remote(case, study)
            outcome = synthesizer.reader_writer.finish.remote(case, study, synthesized)
            self._running[outcome] = (case, synthesizer)
            synthesizer.studies += 1
        return True

    def _end(self, reference: Any) -> Outcome | None:
        """Return the outcome of a study that has ended; None where a synthesizer has started."""
        if reference in self._pool.starting:
            self._note_started(reference)
            return None
        case, synthesizer = self._running.pop(reference)
        synthesizer.studies -= 1
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            logger.debug("series %s: %s", case.ct_uid, error)
            if synthesizer in self._pool.ready:
                self._pool.ready.remove(synthesizer)
                self._drop(synthesizer)
            return Outcome(case.ct_uid, None)
        return outcome

    def _note_started(self, reference: Any) -> None:
        """Start the reader and writer of a synthesizer that answers; with both, it can have studies.

        Raises:
            CheckpointError, RecipeError: The model cannot be loaded on its machine.
            ClusterError: Several could not be started, one after another.
        """
        synthesizer = self._pool.starting.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._drop(synthesizer)
            self._pool.failed_starts += 1
            if self._pool.failed_starts >= MAX_FAILED_STARTS:
                raise ClusterError(
                    f"{MAX_FAILED_STARTS} synthesizers one after another could not be started on the cluster; see the "
                    "logs of Ray on its machines. Do they have the packages of requirements.txt, and enough memory?"
                ) from error
            return
        if synthesizer.reader_writer is not None:
            self._pool.failed_starts = 0
            self._pool.ready.append(synthesizer)
            return
        node_id, failure = answer
        if failure is not None:
            raise failure
        place = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        synthesizer.reader_writer = self._reader_writer.options(scheduling_strategy=place).remote(self._context)
        self._pool.start(synthesizer, synthesizer.reader_writer)

    def _drop(self, synthesizer: _Synthesizer) -> None:
        """End both processes of a synthesizer, one of which was lost; another pair is started for it."""
        logger.info("a synthesizer was lost; another one is started")
        for actor in (synthesizer.actor, synthesizer.reader_writer):
            if actor is not None:
                self._ray.kill(actor)
