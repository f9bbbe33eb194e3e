"""Write a model as one ONNX file that takes HU and returns SUVbw."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch

import lib
from lib.errors import OutputError
from lib.files import atomic_file, file_checksum
from lib.learning.checkpoint import CARD, load_checkpoint
from lib.learning.exchange.physical import OPSET, TRACED_SIZE, PhysicalCascade, example_hu, require_equal, tracing
from lib.learning.model_card.card import ModelCard
from lib.networks.external.onnx_runtime import OnnxSession, inspect_onnx, require_onnx, with_metadata


@dataclass(frozen=True)
class OnnxExport:
    """A written ONNX file.

    Attributes:
        path: The file.
        card: Of the model.
        weights_sha256: Of the exported checkpoint.
        max_difference_suv: Largest difference between onnxruntime's and torch's result for random HU, SUVbw; above
            1 SUV relative to it.
    """

    path: Path
    card: ModelCard
    weights_sha256: str
    max_difference_suv: float


def export_onnx(model: Path, out: Path) -> OnnxExport:
    """Write a checkpoint as ONNX, after comparing its results with those of torch.

    The graph takes `ct_hu` (N, context_slices, R, C), axial slices in HU with the middle one in the middle, and returns
    `suv_bw` (N, 1, R, C); N, R and C may have any value. The file's metadata holds the complete model card.

    Raises:
        CheckpointError: Not a model that was trained here, or onnx is not installed.
        TrainingError: The exported network differs from the model.
        OutputError: The file cannot be written; an existing one is unchanged.
    """
    require_onnx()
    cascade, card = load_checkpoint(model)
    network = PhysicalCascade(cascade, card).eval()
    checksum = file_checksum(model)
    buffer = io.BytesIO()
    axes = {0: "slices", 2: "rows", 3: "columns"}
    with tracing():
        torch.onnx.export(
            network, (example_hu(card, TRACED_SIZE),), buffer,  # type: ignore[arg-type] # documented for the exporter by tracing
            dynamo=False, opset_version=OPSET, input_names=["ct_hu"], output_names=["suv_bw"],
            dynamic_axes={"ct_hu": axes, "suv_bw": axes},
        )  # fmt: skip
    content = with_metadata(buffer.getvalue(), _metadata(card, checksum))
    session = OnnxSession(content, inspect_onnx(content))
    difference = require_equal(lambda ct_hu: torch.from_numpy(session.run(ct_hu.numpy())), network, card)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error}); what was there is kept, free space") from error
    return OnnxExport(out, card, checksum, difference)


def _metadata(card: ModelCard, weights_sha256: str) -> dict[str, str]:
    """Return what users of the file need; the last entry is for imports by ct2pet."""
    grid, network = card.recipe.grid, card.network
    return {
        "name": card.name,
        "version": card.created,
        "producer": f"ct2pet {lib.__version__}",
        "weights_sha256": weights_sha256,
        "intended_use": card.intended_use,
        "limits": card.limits,
        "input": "ct_hu: HU (N, context, rows, columns); slices toward Superior, rows toward Posterior, columns toward "
        "Left; beyond an end the last slice is repeated",
        "output": "suv_bw: SUVbw of the middle slice (N, 1, rows, columns)",
        "pixel_mm": "" if grid.pixel_mm is None else f"{grid.pixel_mm:g}",
        "size": "" if grid.size is None else str(grid.size),
        "context_slices": str(network.context_slices),
        "context_spacing_mm": f"{network.context_spacing_mm:g}",
        CARD: card.to_json(),
    }
