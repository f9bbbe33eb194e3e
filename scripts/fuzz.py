"""Mutate headers and files by the thousand and check how the readers handle them. See `scripts/fuzz --help`."""

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
MAX_LISTED = 40  # findings on the console; --json lists all


def main() -> int:
    """Run the campaign and return 1 if there are findings, else 0."""
    args = _arguments()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="ct2pet-fuzz-") as folder:
        work = Path(folder)
        subjects = make_subjects(work, SHARED if SHARED.is_dir() else None)
        save_subjects([one for one in subjects if one.form in args.forms], work)
        first, count = (0, args.count) if args.only is None else (args.only, 1)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=count)
            campaign = run_campaign(
                work, seed=args.seed, first=first, count=count, keep=args.keep,
                progress=lambda done: bar.update(task, completed=done),
            )  # fmt: skip
    if not campaign.lines:
        return 1
    if args.json:
        print(json.dumps({"seed": args.seed, "table": campaign.table(), "findings": campaign.findings,
                          "peak_mib": max(line["peak_mib"] for line in campaign.lines)}, indent=2))  # fmt: skip
    else:
        _show(campaign, all_lines=args.only is not None)
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
    for line in (campaign.lines if all_lines else campaign.findings)[:MAX_LISTED]:
        prefix = f"{campaign.seed} {line['number']} {line['subject']} | {line['kind']} | {line['what']} | "
        console.print(f"{prefix}{line['outcome']}: {line['detail']}", markup=False, highlight=False, soft_wrap=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description="Mutate DICOM, DICOM JSON, NIfTI, NRRD and MHA files in many ways and read each with the readers "
        "of ct2pet. The exit status is 1 if a mutant is read differently from its original without a warning although "
        "other data contradict it, if a reader raises anything but a CT2PETError, or if a process dies or hangs.",
    )
    parser.add_argument(
        "--count", type=int, default=10_000, help="number of mutants (default 10000, about ten minutes)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutants (default 0)")
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=FORMS, metavar="FORM",
        help=f"kinds of files to mutate: {', '.join(FORMS)} (default all)",
    )  # fmt: skip
    parser.add_argument("--only", type=int, metavar="NUMBER", help="read one mutant of the seed and print its result")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the mutants' files in this folder")
    parser.add_argument("--json", action="store_true", help="print the table and all findings as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
