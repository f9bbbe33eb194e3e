"""`export-onnx`: write a model as ONNX for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import print_json, print_line
from lib.cli.options import AsJson, ModelFile


def export_onnx(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="Output file (.onnx).", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write a model as one ONNX file that takes CT slices in HU and returns SUVbw.

    Input `ct_hu` (slices, context, rows, columns) at the model's pixel size, output `suv_bw` (slices, 1, rows,
    columns). The card is in the file's metadata; `import-onnx` reads it.

    The JSON is `{out, model, weights_sha256, max_difference_suv}`.
    """
    from lib.learning.exchange.export_onnx import export_onnx as export

    done = export(model, out)
    if as_json:
        print_json(
            {
                "out": out,
                "model": done.card.name,
                "weights_sha256": done.weights_sha256,
                "max_difference_suv": done.max_difference_suv,
            }
        )
        return
    print_line(f"{out}: {done.card.name}, at most {done.max_difference_suv:.1g} SUV from the model. Research only.")
