"""The options of `import-onnx`: how to feed a network of another program, and what its card says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CtWindow = Annotated[str, typer.Option(metavar="LOW:HIGH", help="HU window of the input. Default: -1000:1000.")]
InputRange = Annotated[
    str, typer.Option(metavar="LOW:HIGH", help="Input values of the window's ends, such as -1:1. Default: 0:1.")
]
Context = Annotated[int | None, typer.Option(help="CT slices of the input, odd. Default: as the file has.")]
ContextSpacing = Annotated[float | None, typer.Option(help="Distance between these. Default: adjacent slices.")]
PixelSize = Annotated[float | None, typer.Option(help="Resample slices to this pixel size.")]
FieldOfViewPixels = Annotated[
    int | None, typer.Option(help="Resample the full field of view to SIZE x SIZE pixels, instead of --pixel-mm.")
]
FramePixels = Annotated[int | None, typer.Option(help="After resampling, pad or crop slices to FRAME x FRAME pixels.")]
Multiple = Annotated[
    int | None, typer.Option(help="Pad rows and columns to a multiple of this, such as 32 for a deep U-Net.")
]
Formula = Annotated[str, typer.Option(help="SUVbw as a polynomial of the output x, such as 7*x^2. Default: x.")]
OutputRange = Annotated[str, typer.Option(metavar="LOW:HIGH", help="Clip the output before the formula, such as 0:1.")]
InputAxes = Annotated[
    str,
    typer.Option(
        help="Axes of the input: N batch, S slices, R rows, C columns, 1 of length 1; r, c, s reverse one. "
        "Default: NSRC."
    ),
]
OutputAxes = Annotated[str, typer.Option(help="Axes of the output. Default: as the input's.")]
OutputSlice = Annotated[int | None, typer.Option(help="Output slice to use, counted from 0. Default: the middle one.")]
Source = Annotated[str, typer.Option(help="Where the network comes from, for the card.")]
License = Annotated[str, typer.Option("--license", help="Name of its license, or the file with its text.")]
BaselinesFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="STUDIES|ARRAYS|MODEL", help="Fit baselines on these studies, or copy those of a model.",
        show_default=False,
    ),
]  # fmt: skip
