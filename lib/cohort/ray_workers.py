"""What runs in Ray's worker processes: the steps of a study, and a synthesizer that keeps its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib.cohort.case import Case
from lib.cohort.local_engine import load_synthesizer
from lib.cohort.outcome import Outcome
from lib.cohort.settings import ModelFile, StudyContext
from lib.cohort.steps import Read, Synthesized, finish_study, read_study, synthesize_study
from lib.errors import CT2PETError
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import Synthesizer

# Ray repeats nothing by itself: the driver counts each attempt. Reading and writing take no processor from the
# synthesizers, whose number bounds them. Without the order of submission, the next study is read while one is written.
ACTOR: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
SYNTHESIZER: dict[str, Any] = ACTOR
READER_WRITER: dict[str, Any] = {
    **ACTOR, "num_cpus": 0, "max_concurrency": 2, "allow_out_of_order_execution": True,
}  # fmt: skip


class ReaderWriterActor:
    """Reads one study while it writes another."""

    def __init__(self, context: StudyContext) -> None:
        self._context = context

    def start(self) -> None:
        """Return when the process runs."""

    def read(self, case: Case) -> Read:
        """Return a study in memory; see `read_study`."""
        return read_study(case, self._context)

    def finish(self, case: Case, study: Read, synthesized: Synthesized) -> Outcome:
        """Return the outcome of a study; see `finish_study`."""
        return finish_study(case, study, synthesized, self._context)


class SynthesizerActor:
    """A loaded model on one GPU, or on a share of the processors."""

    def __init__(self, models: Sequence[ModelFile], context: StudyContext) -> None:
        self._models = models
        self._context = context
        self._synthesizer: Synthesizer | Ensemble | None = None

    def start(self) -> tuple[str, CT2PETError | None]:
        """Load the model; return the machine's id in Ray, and why the model cannot be loaded."""
        import ray

        node_id: str = ray.get_runtime_context().get_node_id()
        try:
            if self._synthesizer is None:
                self._synthesizer = load_synthesizer(self._models, self._context.settings)
        except CT2PETError as error:
            return node_id, error
        return node_id, None

    def synthesize(self, case: Case, study: Read) -> Synthesized:
        """Return the synthetic PET of a study; see `synthesize_study`."""
        assert self._synthesizer is not None
        return synthesize_study(case, study, self._context, self._synthesizer)
