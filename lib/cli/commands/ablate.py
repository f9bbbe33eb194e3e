"""`ablate`: compare a recipe with variants of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import print_json, print_line, progress_bar
from lib.cli.options import AsJson, Device, Processes, RecipeName, Settings


def ablate(
    studies: Annotated[
        list[Path],
        typer.Argument(metavar="{STUDIES|ARRAYS}...", help="Folder of DICOM studies, or folders written by prepare."),
    ],
    out: Annotated[Path, typer.Option(help="Output folder.", show_default=False)],
    choices: Annotated[
        Path | None, typer.Option(help="TOML file of [[choice]] tables. Default: the variants that ct2pet ships.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Topic or name of a variant. May be repeated.")] = None,
    recipe: RecipeName = "quantitative",
    settings: Settings = None,
    folds: Annotated[int, typer.Option(help="Outer folds, at least 3. Each variant trains folds x (folds - 1) / 2 "
                                            "networks.")] = 5,
    device: Device = "auto",
    processes: Processes = 0,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Ablation",
    note: Annotated[str, typer.Option(help="Line below tables and figure, such as the data's attribution.")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compare a recipe with variants of it by nested cross-validation over all patients.

    Inner folds choose the variant and its settings, outer folds report: each patient is measured once, by networks
    that were trained and chosen without them. An interrupted run continues when the same command is run again.

    The JSON is `{patients, folds, candidates, choices, methods, strata, behind_the_lookup, files}`.
    """
    from lib.experiments.nested.ablation import CHOICES, prepared_arrays, run_ablation

    with progress_bar() as progress:
        _, paths = run_ablation(
            prepared_arrays(studies, out, progress=progress), recipe, settings or (), choices or CHOICES, out,
            only=only or (), folds=folds, device=device, processes=processes, title=title, note=note, progress=progress,
        )  # fmt: skip
    print_nested(paths, as_json=as_json)


def print_nested(paths: Sequence[Path], *, as_json: bool) -> None:
    """Print the report of a nested cross-validation and its files, or its JSON."""
    markdown, document, *_ = paths
    if as_json:
        print_json({**json.loads(document.read_text()), "files": paths})
        return
    print_line(markdown.read_text())
    for path in paths:
        print_line(str(path))
