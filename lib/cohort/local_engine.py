"""The engine `local`: one process, which reads the next study and writes the last one while the network computes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

from lib.cohort.case import Case
from lib.cohort.engine import POLL_INTERVAL_S, Progressing, Work
from lib.cohort.outcome import Outcome
from lib.cohort.settings import ModelFile, StudySettings
from lib.cohort.steps import finish_study, read_study, synthesize_study
from lib.synthesis.ensemble import Ensemble, load_models
from lib.synthesis.synthesizer import Synthesizer

MAX_IN_FLIGHT = 3  # one is read, one synthesised, one written: as many CTs and PETs are in memory


def load_synthesizer(models: Sequence[ModelFile], settings: StudySettings) -> Synthesizer | Ensemble:
    """Return the synthesizer of models whose content is in memory.

    Raises:
        CheckpointError: Not a ct2pet checkpoint, or the models use different grids or windows.
        RecipeError: Unknown device; unknown runtime, or one that is not available.
    """
    with tempfile.TemporaryDirectory(prefix="ct2pet-models-") as folder:
        paths = [Path(folder) / str(number) / model.name for number, model in enumerate(models)]
        for path, model in zip(paths, models, strict=True):
            path.parent.mkdir()
            path.write_bytes(model.content)
        return load_models(paths, device=settings.device, runtime=settings.runtime)


def run_locally(work: Work) -> Progressing:
    """Yield the outcomes of studies that this process works on; see `lib.cohort.engine.Engine`."""
    synthesizer = load_synthesizer(work.models, work.context.settings)
    with ExitStack() as pools:
        reader, network, writer = (
            pools.enter_context(ThreadPoolExecutor(1, thread_name_prefix=name)) for name in ("read", "network", "write")
        )

        def submit(case: Case) -> Future[Outcome]:
            """Begin a study: each step waits in its own thread for the one before."""
            read = reader.submit(read_study, case, work.context)
            synthesized = network.submit(lambda: synthesize_study(case, read.result(), work.context, synthesizer))
            return writer.submit(lambda: finish_study(case, read.result(), synthesized.result(), work.context))

        running: set[Future[Outcome]] = set()
        while True:
            while len(running) < MAX_IN_FLIGHT and not work.stopped() and (case := work.take()) is not None:
                running.add(submit(case))
            if not running:
                return
            done, running = wait(running, timeout=POLL_INTERVAL_S, return_when=FIRST_COMPLETED)
            yield from ((future.result(), 1) for future in done)
            if not done:
                yield None, 1
