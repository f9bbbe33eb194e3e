"""Make an ONNX file of another program, or one exported here, a model with a card."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

import lib
from lib.errors import CheckpointError, InputError, RecipeError
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.learning.checkpoint import CARD
from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import ModelCard, TrainingData, patient_digest
from lib.learning.model_card.limits import GENERAL_LIMITS
from lib.learning.recipe import Recipe, SynthesisConfig
from lib.learning.validation import fit_prepared_baselines, fit_prepared_calibration, score
from lib.metrics.image import library_versions
from lib.networks.cascade import MAX_BASE_CHANNELS, NetworkConfig
from lib.networks.external.axes import Axes
from lib.networks.external.network import ExternalNetwork
from lib.networks.external.onnx_runtime import MAX_BYTES, OnnxSignature, inspect_onnx
from lib.networks.external.settings import ExternalModel
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side

TRIED_SIZE = (128, 160)  # rows and columns, if the network's are free: unequal, to find exchanged axes
UNKNOWN_TRAINING = (
    "The network was imported; on which patients it was trained is unknown, so those it is evaluated on may be among "
    "them."
)


@dataclass(frozen=True)
class ImportSettings:
    """How to feed a network that another program exported; None where the file or a default decides.

    Attributes:
        ct_window: HU of the low and high end of the input range; -1000 and 1000 by default.
        context_slices, context_spacing_mm: Context slices, and their distance; 0 for adjacent slices.
        pixel_mm: Pixel size to which slices are resampled.
        size: Rows and columns to which the full field of view is resampled, instead of `pixel_mm`.
        frame: Rows and columns to which slices are padded or cropped after resampling.

    The others are those of `ExternalModel`.
    """

    ct_window: tuple[float, float] | None = None
    input_range: tuple[float, float] | None = None
    output_range: tuple[float, float] | None = None
    formula: str | None = None
    context_slices: int | None = None
    context_spacing_mm: float | None = None
    pixel_mm: float | None = None
    size: int | None = None
    frame: int | None = None
    multiple: int | None = None
    input_axes: str | None = None
    output_axes: str | None = None
    output_slice: int | None = None


def import_onnx(
    content: bytes,
    name: str,
    settings: ImportSettings,
    *,
    default_name: str = "imported",
    source: str = "",
    license_text: str = "",
) -> ModelCard:
    """Return the card of an ONNX file, after running it once.

    A file that was exported here brings its card: its settings, what it was trained on, its scores and baselines.

    Args:
        content: The file.
        name: Of the model; if empty, that in the file.
        settings: How to feed it; not for a file that was exported here.
        default_name: Name of a model whose file has none.
        source, license_text: Recorded in the card.

    Raises:
        CheckpointError: onnx is not installed, or the file is not usable with these settings.
        RecipeError: The settings are invalid, or contradict the file.
    """
    signature = inspect_onnx(content)
    checksum = hashlib.sha256(content).hexdigest()
    if CARD in signature.metadata:
        card = _exported_card(signature, checksum, name, settings)
    else:
        card = _foreign_card(signature, checksum, name or default_name, settings)
    assert card.external is not None
    card = replace(card, external=replace(card.external, source=source, license=license_text))
    _try(content, card)
    return card


def copy_baselines(card: ModelCard, other: ModelCard) -> ModelCard:
    """Return a card with the baselines of another model, whose patients are recorded with them.

    Raises:
        InputError: The other card has no baselines.
    """
    if other.baselines is None:
        raise InputError(f"the model card of {other.name} has no baselines to copy; give another model, or studies")
    return _with_baselines(card, other.baselines, tuple(sorted(other.fitted_on)))


def judge_on_arrays(card: ModelCard, content: bytes, prepared: PreparedSet, *, device: torch.device) -> ModelCard:
    """Return a card with baselines fitted on the training side of prepared pairs, and scores on the other sides.

    Without patients on the other sides, or if the arrays have another grid or windows than the network, there are
    baselines but no scores.

    Raises:
        PreparedDataError: No patient is on the training side.
        CheckpointError: The network is not usable.
    """
    recipe = card.recipe
    sides = split_pairs(prepared, recipe.split)
    baselines = fit_prepared_baselines(prepared, sides.train)
    fitted_on = tuple(sorted({patient_digest(pair.patient_id) for pair, _ in sides.train}))
    card = _with_baselines(card, baselines.to_json(), fitted_on)
    others = (*sides.validation, *sides.test)
    if prepared.preparation != recipe.preparation or not others:
        return replace(card, scores=None, calibration=None)
    network = network_of(card, content)
    scores = score(network, prepared, others, recipe, baselines, side=Side.TEST, device=device)
    calibration = fit_prepared_calibration(network, prepared, sides.validation, recipe, device=device)
    return replace(card, scores=scores, calibration=None if calibration is None else calibration.to_json())


def network_of(card: ModelCard, content: bytes) -> ExternalNetwork:
    """Return the network of an ONNX file and its card."""
    assert card.external is not None
    return ExternalNetwork(content, card.external, config=card.network, windows=card.recipe.windows)


def _with_baselines(card: ModelCard, baselines: object, fitted_on: tuple[str, ...]) -> ModelCard:
    assert card.external is not None
    return replace(card, baselines=baselines, external=replace(card.external, baseline_patients=fitted_on))  # type: ignore[arg-type]


def _exported_card(signature: OnnxSignature, checksum: str, name: str, settings: ImportSettings) -> ModelCard:
    given = [field.name for field in fields(settings) if getattr(settings, field.name) is not None]
    if given:
        raise RecipeError(
            f"the file was exported by ct2pet and brings its own settings; found {', '.join(given)} in addition, "
            "expected none"
        )
    card = ModelCard.from_json(signature.metadata[CARD])
    windows = card.recipe.windows
    return replace(
        card,
        name=name or card.name,
        recipe=replace(card.recipe, synthesis=SynthesisConfig(flips=False)),  # the graph averages mirror images itself
        training=replace(card.training, folds={}),  # nor can single networks of it judge the patients they did not see
        fold_baselines=(),
        external=ExternalModel(
            checksum, signature.opset, input_low=windows.ct_low_hu, input_high=windows.ct_high_hu, output_low=0.0
        ),
    )


def _foreign_card(signature: OnnxSignature, checksum: str, name: str, settings: ImportSettings) -> ModelCard:
    input_axes = Axes(settings.input_axes or "NSRC")
    if len(signature.input_shape) != len(input_axes.letters):
        raise RecipeError(
            f"the input has {len(signature.input_shape)} axes, {input_axes.letters} names {len(input_axes.letters)}; "
            "name the axes of the input"
        )
    grid, frame = _grid(signature, input_axes, settings)
    fixed_context = input_axes.size_of(signature.input_shape, "S")
    context = settings.context_slices or fixed_context or 1
    if fixed_context not in (None, context) or (input_axes.slice_axis is None and context > 1):
        raise RecipeError(f"the network takes {fixed_context or 1} context slices, found {context} in the settings")
    low_hu, high_hu = settings.ct_window or (-1000.0, 1000.0)
    input_low, input_high = settings.input_range or (0.0, 1.0)
    output_low, output_high = settings.output_range or (None, None)
    network = NetworkConfig(
        stages=1,
        base_channels=min(max(signature.first_width, 1), MAX_BASE_CHANNELS),
        depth=1,
        context_slices=context,
        context_spacing_mm=settings.context_spacing_mm or 0.0,
    )
    external = ExternalModel(
        checksum,
        signature.opset,
        input_low=input_low,
        input_high=input_high,
        output_low=output_low,
        output_high=output_high,
        formula=settings.formula or "x",
        input_axes=input_axes.letters,
        output_axes=settings.output_axes or input_axes.letters,
        output_slice=settings.output_slice,
        frame=frame,
        multiple=settings.multiple or 1,
    )
    recipe = Recipe(
        "imported", grid, Windows(ct_low_hu=low_hu, ct_high_hu=high_hu), network=network, precision="float32"
    )
    framed = "" if frame is None else f" Outside the middle {frame[0]} x {frame[1]} pixels its PET is 0."
    return ModelCard(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        recipe=recipe,
        network=network,
        training=TrainingData(patients=(), validation_patients=(), pairs=0, slices=0, digest=""),
        epoch=0,
        scores=None,
        baselines=None,
        versions={"ct2pet": lib.__version__, **library_versions()},
        limits=f"{GENERAL_LIMITS} {UNKNOWN_TRAINING}{framed}",
        external=external,
    )


def _grid(signature: OnnxSignature, axes: Axes, settings: ImportSettings) -> tuple[Grid, tuple[int, int] | None]:
    """Return the grid and the frame; rows and columns that the network fixes decide where the settings do not."""
    rows, columns = (axes.size_of(signature.input_shape, letter) for letter in "RC")
    frame = None if settings.frame is None else (settings.frame, settings.frame)
    if rows is not None and columns is not None:
        if frame not in (None, (rows, columns)):
            raise RecipeError(f"the network takes {rows} x {columns} pixels, found a frame of {settings.frame}")
        if settings.pixel_mm is None and settings.size is None and rows == columns:
            return Grid(size=rows), None
        frame = (rows, columns)
    if settings.pixel_mm is None and settings.size is None:
        raise RecipeError(
            "the pixel size of an imported network is unknown; give either the pixel size in mm, or the rows and "
            "columns to which the full field of view is resampled"
        )
    return Grid(pixel_mm=settings.pixel_mm, size=settings.size), frame


def _try(content: bytes, card: ModelCard) -> None:
    size = card.recipe.grid.size
    rows, columns = TRIED_SIZE if size is None else (size, size)
    air = torch.zeros(1, card.network.context_slices, rows, columns)
    (pet,) = network_of(card, content)(air)
    if not np.isfinite(pet.numpy()).all():
        raise CheckpointError("the ONNX file is not usable: its PET of air is not finite", code="invalid_onnx")


def read_onnx(path: Path) -> bytes:
    """Return the bytes of an ONNX file.

    Raises:
        CheckpointError: It cannot be read, or is too large (code `invalid_onnx`).
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_BYTES / 2**20:.0f} MiB", code="invalid_onnx")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", code="invalid_onnx") from error
