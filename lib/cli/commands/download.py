"""`download`: fetch open studies."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lib.cli.console import add_row, new_table, print_json, print_line, progress_bar, stderr, stdout
from lib.cli.errors import INTERNAL_ERROR
from lib.cli.options import AsJson
from lib.errors import InputError

if TYPE_CHECKING:
    from lib.download.cohort import Selection
    from lib.download.download import DownloadReport


def download(
    cohort: Annotated[
        str, typer.Argument(help="paper (its nine patients), lung (all 133 of the collection) or idc:COLLECTION.")
    ],
    out: Annotated[Path, typer.Option(help="Output folder.", show_default=False)],
    patients: Annotated[
        int | None, typer.Option(help="Maximum number of patients; those that `pair` can use come first.", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be downloaded.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    endpoint_url: Annotated[
        str, typer.Option(envvar="CT2PET_S3_ENDPOINT", help="Another S3 server, such as a mirror.")
    ] = "https://s3.amazonaws.com",
    as_json: AsJson = False,
) -> None:
    """Download open PET/CT studies from the Imaging Data Commons, with their attribution.

    Selects one CT and one PET per study from the archive's index, shows size, licence and source, and asks for
    confirmation. An interrupted download continues when the same command is run again; counts and sizes are verified.
    Requires `pip install -r requirements-download.txt`.

    The JSON is `{out, fetched, reused, failed: [{patient_id, series_instance_uid, reason}]}`; with --dry-run the
    selection: `{cohort, index_version, archive, pairs: [{ct, pet}], left_out}`.
    """
    from lib.download.cohort import parse_cohort, select_cohort

    selection = select_cohort(parse_cohort(cohort), patients=patients)
    console = stderr if as_json else stdout
    if dry_run and as_json:
        print_json(selection)
    elif dry_run:
        _print_selection(selection)
    _print_summary(selection, console)
    if dry_run or (report := _download(selection, out, endpoint_url, yes=yes, console=console)) is None:
        return
    if as_json:
        print_json(report)
    for failure in report.failed:
        print_line(f"failed: {failure.patient_id} {failure.series_instance_uid}: {failure.reason}", stderr)
    print_line(
        f"{report.fetched} series downloaded, {report.reused} already present, {len(report.failed)} failed; "
        f"attribution: {out / 'ATTRIBUTION.md'}",
        console,
    )
    if report.failed:
        raise typer.Exit(code=INTERNAL_ERROR)


def _download(
    selection: Selection, out: Path, endpoint_url: str, *, yes: bool, console: Console
) -> DownloadReport | None:
    """Return the report of the download; None if the user does not confirm it."""
    from lib.download.download import download, missing_bytes
    from lib.download.transfer import S3Client, find_s5cmd

    client = S3Client(find_s5cmd(), endpoint_url)
    missing = missing_bytes(selection, out)
    print_line(f"to download to {out}: {missing / 1e9:.2f} GB", console)
    if missing and not yes and not _confirm():
        print_line("nothing downloaded", stderr)
        return None
    with progress_bar() as progress:
        return download(selection, out, client=client, progress=progress)


def _confirm() -> bool:
    if not sys.stdin.isatty():
        raise InputError("no terminal to confirm the download; use --yes to download without confirmation")
    return typer.confirm("Continue?", default=False, err=True)


def _print_selection(selection: Selection) -> None:
    table = new_table("patient", "study date", "CT", "PET", ">images CT/PET", ">MB", "CT from")
    for pair in selection.pairs:
        texts = (pair.pet.patient_id, pair.pet.study_date, pair.ct.description, pair.pet.description)
        images = f"{pair.ct.images}/{pair.pet.images}"
        megabytes = f"{(pair.ct.size_bytes + pair.pet.size_bytes) / 1e6:.0f}"
        origin = "the PET's study" if pair.in_one_study else "another study of that day"
        add_row(table, *texts, images, megabytes, origin)
    stdout.print(table)


def _print_summary(selection: Selection, console: Console) -> None:
    archive, joined = selection.archive, sum(pair.in_one_study for pair in selection.pairs)
    lines = [
        f"{selection.cohort.name}: {len(archive.patients_with_both)} patients with CT and PET in the Imaging Data "
        f"Commons (index {selection.index_version}), {archive.images:,} images, {archive.size_bytes / 1e9:.1f} GB",
        f"selected: {len(selection.patients)} patients, {len(selection.series)} series, {selection.images:,} images, "
        f"{selection.size_bytes / 1e9:.2f} GB",
        f"licence: {', '.join(selection.licences)}; source: https://doi.org/{', https://doi.org/'.join(selection.dois)}",
    ]
    if joined < len(selection.pairs):
        lines.append(
            f"{joined} of {len(selection.pairs)} PETs have a CT in their own study; the others use a CT from another "
            "study of that day, which `pair` accepts if the frame of reference is the same"
        )
    reasons = Counter(study.reason for study in selection.left_out)
    lines += [f"excluded: {studies} studies: {reason}" for reason, studies in reasons.most_common()]
    for line in lines:
        print_line(line, console)
