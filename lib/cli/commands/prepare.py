"""`prepare`: write the pairs of a folder as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import print_json, print_line
from lib.cli.options import AsJson, Labels, RecipeName, Register, Settings, Studies
from lib.cli.studies import prepare_studies


def prepare(
    studies: Studies,
    out: Annotated[Path, typer.Option(help="Output folder for the arrays.", show_default=False)],
    recipe: RecipeName = "quantitative",
    settings: Settings = None,
    register: Register = False,
    labels: Labels = None,
    as_json: AsJson = False,
) -> None:
    """Write the pairs of a folder as arrays for training on any machine. Existing arrays of the same pairs are reused.

    With --labels, the organs of the label maps are stored for the baseline `organ_median`.

    The JSON is `{out, pairs, reused, failed: [{patient_id, ct_series_instance_uid, pet_series_instance_uid, reason}],
    without_organs}`, where `without_organs` is like `failed`: the pairs that --labels has no usable label map for.
    """
    from lib.learning.recipe import load_recipe

    report = prepare_studies(
        studies, out, load_recipe(recipe, settings=settings or ()), register=register, labels=labels
    )
    pairs = len(report.prepared.pairs)
    if as_json:
        print_json(
            {
                "out": out,
                "pairs": pairs,
                "reused": report.reused,
                "failed": report.failed,
                "without_organs": report.without_organs,
            }
        )
        return
    print_line(f"{pairs} pairs in {out}, {report.reused} reused")
