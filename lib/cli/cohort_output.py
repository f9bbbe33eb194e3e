"""Tables and lines of the commands `cohort run` and `cohort status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lib.cli.console import add_row, new_table, print_line, stdout

if TYPE_CHECKING:
    from lib.cohort.run import CohortRun
    from lib.cohort.summary import CohortSummary


def print_run(finished: CohortRun, summary: CohortSummary, out: Path) -> None:
    """Print what a run did, and what is left."""
    print_failures(summary)
    counts = finished.counts
    print_line(
        f"{out}: {finished.done} synthetic PETs in {finished.seconds:.0f} s ({finished.before} before); "
        f"{counts['failed']} failed, {counts['unusable']} CTs cannot be used, {counts['pending']} pending; "
        f"{finished.retried} attempts repeated, {finished.lost} lost. Research only, NOT FOR DIAGNOSIS."
    )
    if finished.is_stopped:
        print_line("Stopped. The same command goes on.")


def print_summary(summary: CohortSummary, out: Path) -> None:
    """Print how far a cohort is."""
    table = new_table("state", ">studies", title=str(out))
    for state, count in summary.counts.items():
        add_row(table, state, str(count))
    stdout.print(table)
    print_failures(summary)
    rate, remaining = summary.studies_per_hour, summary.remaining_s
    print_line(
        f"{'–' if rate is None else f'{rate:.0f}'} studies per hour, "
        f"{'–' if remaining is None else f'{remaining / 60:.0f} min'} for what is pending; {summary.retried} attempts "
        f"repeated, {summary.lost} lost. Weights {summary.identity['weights'][:12]}."
    )


def print_failures(summary: CohortSummary) -> None:
    """Print the studies that have no result, by reason; nothing where there are none."""
    if not summary.failures:
        return
    table = new_table("state", "step", "code", ">studies", "for example")
    for one in summary.failures:
        add_row(table, one.state, one.step, one.code, str(one.count), one.example)
    stdout.print(table)
