"""Break headers and files by the thousand, and see what the readers make of them. See `scripts/fuzz --help`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: E402
from rich.table import Table  # noqa: E402

from scripts.fuzzing.campaign import FINDINGS, FINE, Campaign, run_campaign  # noqa: E402
from scripts.fuzzing.subjects import make_subjects, save_subjects  # noqa: E402

SHARED = ROOT.parent / "shared"
FORMS = ("dicom", "compressed", "volume", "json")
LISTED = 40  # findings shown; --json gives all


def main() -> int:
    """Do what the command line says; return 0 where nothing was found, 1 where something was."""
    asked = _arguments()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="ct2pet-fuzz-") as folder:
        work = Path(folder)
        subjects = make_subjects(work, SHARED if SHARED.is_dir() else None)
        save_subjects([one for one in subjects if one.form in asked.forms], work)
        first, count = (0, asked.count) if asked.only is None else (asked.only, 1)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=count)
            campaign = run_campaign(
                work, seed=asked.seed, first=first, count=count, keep=asked.keep,
                progress=lambda done: bar.update(task, completed=done),
            )  # fmt: skip
    if not campaign.lines:
        return 1
    if asked.json:
        print(json.dumps({"seed": asked.seed, "table": campaign.table(), "findings": campaign.findings,
                          "peak_mib": max(line["peak_mib"] for line in campaign.lines)}, indent=2))  # fmt: skip
    else:
        _show(campaign, all_lines=asked.only is not None)
    return 1 if campaign.findings else 0


def _show(campaign: Campaign, *, all_lines: bool) -> None:
    console = Console()
    table = Table("mutation", *FINE, *FINDINGS)
    for kind, outcomes in campaign.table().items():
        table.add_row(kind, *(str(outcomes[outcome] or "") for outcome in (*FINE, *FINDINGS)))
    console.print(table)
    slowest = max(campaign.lines, key=lambda line: line["seconds"])
    peak_mib = max(line["peak_mib"] for line in campaign.lines)
    console.print(f"{len(campaign.lines)} mutants; slowest {slowest['seconds']} s; at most {peak_mib} MiB")
    for line in (campaign.lines if all_lines else campaign.findings)[:LISTED]:
        words = f"{campaign.seed} {line['number']} {line['subject']} | {line['kind']} | {line['what']} | "
        console.print(f"{words}{line['outcome']}: {line['detail']}", markup=False, highlight=False, soft_wrap=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description="Break DICOM, DICOM JSON, NIfTI, NRRD and MHA files in many ways and read each with the product's "
        "own readers. Exit status 1 where one is read otherwise than its untouched files say, without a word, where a "
        "reader fails with anything but an error of ours, or where a process dies or hangs.",
    )
    parser.add_argument("--count", type=int, default=10_000, help="mutants (default 10000, some ten minutes)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other mutants (default 0)")
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=FORMS, metavar="FORM",
        help=f"which files are broken: {', '.join(FORMS)} (default all)",
    )  # fmt: skip
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one mutant of the seed, with what came of it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the mutants' files there")
    parser.add_argument("--json", action="store_true", help="table and all findings as JSON on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
