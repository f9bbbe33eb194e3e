"""`card`: show a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import add_row, new_table, print_json, print_line, stdout
from lib.cli.options import AsJson
from lib.cli.scores import print_card_scores


def card(
    model: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors file written by `train`.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Show a model card: training data, comparison with baselines, intended use and limits.

    The JSON is the complete card, including the metrics of each patient (patient IDs are hashed) and the baselines.
    """
    from lib.learning.checkpoint import read_card
    from lib.learning.model_card.facts import card_facts

    found = read_card(model)
    if as_json:
        print_json(found.as_json())
        return
    table = new_table("model", "")
    for name, fact in card_facts(found).items():
        add_row(table, name, fact)
    stdout.print(table)
    print_card_scores(found)
    print_line(f"Limits: {found.limits}")
