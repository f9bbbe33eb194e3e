"""`cohort`: synthesise the PETs of many studies, on one machine or many, and report on them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lib.cli.cohort_options import (
    AllowUnlike,
    EngineName,
    Limit,
    OutFolder,
    Retries,
    Store,
    StudiesOrPacs,
    Threads,
    Where,
    Workers,
    engine_named,
    pacs_address,
    plan_of,
)
from lib.cli.cohort_output import print_run, print_summary
from lib.cli.console import print_json, print_line, remaining_time_bar
from lib.cli.options import AsJson, Device, ModelFiles, Runtime
from lib.errors import InputError

STOPPED, ALL_FAILED = 130, 1  # exit codes
DEFAULT_OUT = Path("cohort")

cohort = typer.Typer(
    no_args_is_help=True,
    help="Synthesise the PETs of many studies, on one machine or many. Research only, not for diagnosis.",
)
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of `cohort run`.", show_default=False)]


@cohort.command()
def run(
    studies: StudiesOrPacs,
    models: ModelFiles,
    engine: EngineName = "local",
    out: OutFolder = DEFAULT_OUT,
    store: Store = False,
    where: Where = "",
    limit: Limit = 0,
    retries: Retries = 1,
    workers: Workers = 0,
    threads: Threads = 1,
    allow_unlike: AllowUnlike = False,
    device: Device = "auto",
    runtime: Runtime = "auto",
    as_json: AsJson = False,
) -> None:
    """Synthesise the PET of every CT, and compare it with the real PET where there is one.

    Each PET is a DICOM series OUT/series/UID, or with --store a series in the PACS. Stop with Ctrl-C, and go on with
    the same command: what is done is not done again, also after a crash. A study that fails does not stop the others.

    The JSON is `{out, engine, counts, before, done, retried, lost, seconds, is_stopped, failures}`; exit code 130 means
    stopped, 1 that every study failed.
    """
    from lib.cohort.run import run_cohort
    from lib.cohort.settings import StudySettings
    from lib.cohort.summary import summarize
    from lib.dicom.scan.attribute_filters import parse_filters

    pacs = pacs_address(studies)
    if store and pacs is None:
        raise InputError("--store needs the address of a PACS instead of a folder, such as https://pacs/dicom-web")
    settings = StudySettings(out.resolve(), pacs, store, parse_filters(where), allow_unlike, device, runtime)
    chosen = engine_named(engine)
    with remaining_time_bar() as progress:
        plan = plan_of(studies, settings, limit=limit, progress=progress)
        finished = run_cohort(
            plan, models, settings, chosen, engine_name=engine, retries=retries, workers=workers, threads=threads,
            progress=progress,
        )  # fmt: skip
    summary = summarize(out)
    if as_json:
        failures = [asdict(one) for one in summary.failures]
        print_json({"out": out, "engine": engine, **asdict(finished), "failures": failures})
    else:
        print_run(finished, summary, out)
    if finished.is_stopped:
        raise typer.Exit(STOPPED)
    if finished.has_only_failed:
        raise typer.Exit(ALL_FAILED)


@cohort.command()
def status(out: Out, as_json: AsJson = False) -> None:
    """Show how far a cohort is, also while it runs.

    The JSON is `{out, identity, counts, attempts, retried, lost, slices, studies_per_hour, remaining_s, failures,
    runs}`.
    """
    from lib.cohort.summary import summarize

    summary = summarize(out)
    if as_json:
        print_json({"out": out, **summary.as_json()})
        return
    print_summary(summary, out)


@cohort.command()
def report(out: Out, as_json: AsJson = False) -> None:
    """Write OUT/report.html: throughput, failures by reason, SUV, metrics by scanner, slowest steps, every case.

    The JSON is that of `status`, with `report`, `suv`, `step_seconds`, `by_scanner` and `slowest`.
    """
    from lib.cohort.report.html import write_report
    from lib.cohort.summary import summarize

    summary = summarize(out)
    path = write_report(summary, out)
    if as_json:
        print_json({"out": out, "report": path, **summary.as_json(), **summary.details_as_json()})
        return
    print_line(str(path))
