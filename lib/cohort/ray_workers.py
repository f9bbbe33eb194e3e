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
# synthesizers, whose number bounds them.
TASK: dict[str, Any] = {"num_cpus": 0, "max_retries": 0}
ACTOR: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}


def read(case: Case, context: StudyContext) -> Read:
    """Return a study in memory; see `read_study`."""
    return read_study(case, context)


def finish(case: Case, study: Read, synthesized: Synthesized, context: StudyContext) -> Outcome:
    """Return the outcome of a study; see `finish_study`."""
    return finish_study(case, study, synthesized, context)


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
