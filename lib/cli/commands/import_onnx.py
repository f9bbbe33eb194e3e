"""`import-onnx`: make a network of another program a model that is evaluated and served like any other."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lib.cli.console import print_json, print_line
from lib.cli.onnx_options import (
    BaselinesFrom,
    Context,
    ContextSpacing,
    CtWindow,
    FieldOfViewPixels,
    Formula,
    FramePixels,
    InputAxes,
    InputRange,
    License,
    Multiple,
    OutputAxes,
    OutputRange,
    OutputSlice,
    PixelSize,
    Source,
)
from lib.cli.options import AsJson, Device, Register
from lib.cli.scores import print_card_scores
from lib.cli.studies import prepare_studies
from lib.errors import InputError

if TYPE_CHECKING:
    from lib.learning.model_card.card import ModelCard


def import_onnx(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file, weights included.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Output file (.safetensors).", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the model. Default: that of the file.")] = "",
    ct_window: CtWindow = "",
    input_range: InputRange = "",
    context: Context = None,
    context_spacing_mm: ContextSpacing = None,
    pixel_mm: PixelSize = None,
    size: FieldOfViewPixels = None,
    frame: FramePixels = None,
    multiple: Multiple = None,
    formula: Formula = "",
    output_range: OutputRange = "",
    axes: InputAxes = "",
    output_axes: OutputAxes = "",
    output_slice: OutputSlice = None,
    source: Source = "",
    license_text: License = "",
    baselines_from: BaselinesFrom = None,
    register: Register = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Make an ONNX file of another program a model file for `synthesize`, `evaluate` and the server.

    A file that `export-onnx` wrote needs no options. `evaluate` and the server compare a model with baselines, so give
    --baselines-from: studies or arrays, of which the training side of the split is used for the baselines and the
    other patients for the scores in the card; or a model, whose baselines are copied.

    The JSON is the model card.
    """
    from lib.learning.checkpoint import save_external
    from lib.learning.exchange import import_onnx as exchange

    settings = exchange.ImportSettings(
        ct_window=_range(ct_window, "--ct-window"),
        input_range=_range(input_range, "--input-range"),
        output_range=_range(output_range, "--output-range"),
        formula=formula or None,
        context_slices=context,
        context_spacing_mm=context_spacing_mm,
        pixel_mm=pixel_mm,
        size=size,
        frame=frame,
        multiple=multiple,
        input_axes=axes or None,
        output_axes=output_axes or None,
        output_slice=output_slice,
    )
    content = exchange.read_onnx(file)
    card = exchange.import_onnx(
        content, name, settings, default_name=file.stem, source=source, license_text=_text(license_text)
    )
    if baselines_from is not None:
        card = _judged(card, content, baselines_from, register=register, device=device)
    save_external(out, content, card)
    _print(card, out, as_json=as_json)


def _print(card: ModelCard, out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(card.as_json())
        return
    print_card_scores(card)
    print_line(f"{out}: {card.name}")


def _judged(card: ModelCard, content: bytes, source: Path, *, register: bool, device: str) -> ModelCard:
    from lib.learning.checkpoint import read_card
    from lib.learning.exchange.import_onnx import copy_baselines, judge_on_arrays
    from lib.networks.precision import choose_device
    from lib.pairing.prepared import PreparedSet

    if source.is_file():
        return copy_baselines(card, read_card(source))
    chosen = choose_device(device)
    if (source / "index.json").is_file():
        return judge_on_arrays(card, content, PreparedSet.open(source), device=chosen)
    with tempfile.TemporaryDirectory(prefix="ct2pet-import-") as folder:
        prepared = prepare_studies(source, Path(folder), card.recipe, register=register).prepared
        return judge_on_arrays(card, content, prepared, device=chosen)


def _range(text: str, option: str) -> tuple[float, float] | None:
    if not text:
        return None
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError as error:
        raise InputError(f"{option} {text[:40]!r}: expected LOW:HIGH, such as -900:200") from error


def _text(name_or_file: str) -> str:
    """Return the text of a file, or else the given text."""
    path = Path(name_or_file)
    try:
        return path.read_text(encoding="utf-8") if name_or_file and path.is_file() else name_or_file
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable text file ({error})") from error
