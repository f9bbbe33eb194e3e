"""`export-bundle`: write a model as a MONAI bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import print_json, print_line
from lib.cli.options import AsJson, ModelFile


def export_bundle(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="New folder for the bundle.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write a model as a MONAI bundle, which `python -m monai.bundle run` applies to NIfTI files without ct2pet.

    The JSON is `{out, model}`.
    """
    from lib.learning.exchange.export_bundle import export_bundle as export

    card = export(model, out)
    if as_json:
        print_json({"out": out, "model": card.name})
        return
    print_line(f"{out}: {card.name}. docs/README.md says how to run it. Research only, NOT FOR DIAGNOSIS.")
