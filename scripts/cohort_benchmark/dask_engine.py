"""The engine that Ray was compared with: the same three functions as tasks of Dask (docs/decisions/0052).

Dask is no dependency; install it separately: `pip install --target DIR 'dask[distributed]==2026.8.*'`, and set
`PYTHONPATH=DIR`.
"""

from __future__ import annotations

from typing import Any

from lib.cohort.case import Case
from lib.cohort.engine import POLL_INTERVAL_S, Progressing, Work
from lib.cohort.local_engine import load_synthesizer
from lib.cohort.settings import ModelFile, StudyContext
from lib.cohort.steps import finish_study, read_study, synthesize_study

THREADS = 3  # of a worker: one reads, one computes, one writes
NETWORK = "network"  # a resource of which each worker has one, so that one study at a time is in it


def run_on_dask(work: Work) -> Progressing:
    """Yield the outcomes of studies that a cluster of this machine works on; see `lib.cohort.engine.Engine`."""
    from distributed import Client, LocalCluster, wait

    workers = work.workers or 1
    resources = {NETWORK: 1}
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=THREADS,
            resources=resources,
            dashboard_address=None,
            env={"OMP_NUM_THREADS": "1"},
        ) as cluster,
        Client(cluster) as client,
    ):
        context = client.scatter(work.context, broadcast=True)
        models = client.scatter(tuple(work.models), broadcast=True, hash=False)
        running: set[Any] = set()
        while True:
            while len(running) < THREADS * workers and not work.stopped() and (case := work.take()) is not None:
                read = client.submit(read_study, case, context, pure=False)
                synthesized = client.submit(_synthesize, case, read, context, models, pure=False, resources=resources)
                running.add(client.submit(finish_study, case, read, synthesized, context, pure=False))
            if not running:
                return
            try:
                done = wait(running, timeout=POLL_INTERVAL_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                yield None, workers
                continue
            running -= done
            yield from ((future.result(), workers) for future in done)


def _synthesize(case: Case, study: Any, context: StudyContext, models: tuple[ModelFile, ...]) -> Any:
    from distributed import get_worker

    worker = get_worker()
    if not hasattr(worker, "synthesizer"):
        worker.synthesizer = load_synthesizer(models, context.settings)
    return synthesize_study(case, study, context, worker.synthesizer)
