"""`study`: compare 1 to 6 stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lib.cli.commands.ablate import print_nested
from lib.cli.console import print_json, print_line, progress_bar
from lib.cli.options import (
    AsJson,
    Device,
    Experiment,
    Processes,
    RecipeName,
    Settings,
    StudiesOrArrays,
    TrackingName,
    TrackingUri,
)
from lib.cli.studies import open_or_prepare, start_tracking


def study(
    studies: StudiesOrArrays,
    out: Annotated[Path, typer.Option(help="Output folder of the study.", show_default=False)],
    stages: Annotated[str, typer.Option(help="Numbers of stages, such as 1-6 or 1,3.")] = "1-6",
    recipe: RecipeName = "quantitative",
    equal: Annotated[
        str, typer.Option(help="width, or flops to give every number of stages the compute of one stage.")
    ] = "width",
    folds: Annotated[
        int,
        typer.Option(
            help="Outer folds of a nested cross-validation over all patients, at least 3, instead of the split of the "
            "recipe and the paper's figures."
        ),
    ] = 0,
    settings: Settings = None,
    device: Device = "auto",
    processes: Processes = 0,
    note: Annotated[str, typer.Option(help="Line below the table and figures, such as the data's attribution.")] = "",
    tracking: TrackingName = "none",
    tracking_uri: TrackingUri = "",
    experiment: Experiment = "ct2pet",
    as_json: AsJson = False,
) -> None:
    """Train cascades of 1 to 6 stages with the same recipe; write the paper's table and its seven figures.

    An interrupted study continues when the same command is run again. The table also lists the baselines.

    The split tests on few patients; `--folds 5` tests on all, each once, by networks that were trained, and whose
    number of stages was chosen, without them.

    The JSON is `{rows, table, figures}`; with `--folds` that of `ablate`.
    """
    from lib.experiments.study import compare_stages, parse_stages, run_study
    from lib.learning.recipe import load_recipe

    numbers = parse_stages(stages)
    tracker = start_tracking(tracking, uri=tracking_uri, experiment=experiment)
    chosen = load_recipe(recipe, settings=settings or ())
    prepared = open_or_prepare(studies, out, chosen)
    if folds:
        with progress_bar() as progress:
            _, paths = compare_stages(
                prepared, chosen, out, stages=numbers, equal=equal, folds=folds, device=device, processes=processes,
                note=note, progress=progress,
            )  # fmt: skip
        print_nested(paths, as_json=as_json)
        return
    with progress_bar() as progress:
        result = run_study(
            prepared, chosen, out, stages=numbers, equal=equal, device=device, note=note, tracking=tracker,
            progress=progress,
        )  # fmt: skip
    if as_json:
        print_json({"rows": result.rows, "table": result.table_csv, "figures": result.figures})
        return
    print_line(result.table_markdown.read_text())
    for path in (result.table_csv, result.table_markdown, *result.figures):
        print_line(str(path))
