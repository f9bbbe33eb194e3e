"""Checkpoints: weights and model card in one .safetensors file, without pickle.

An imported network is kept in the same way: one tensor holds the bytes of its ONNX file.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.errors import CheckpointError, TrainingError
from lib.files import atomic_file
from lib.learning.model_card.card import ModelCard
from lib.networks.cascade import Cascade
from lib.networks.ensemble import make_cascade
from lib.networks.external.network import ExternalNetwork
from lib.networks.slices import SliceNetwork

CARD = "ct2pet_card"  # key of the card in the file's header
ONNX = "onnx"  # name of the tensor that holds an ONNX file, uint8


def save_checkpoint(path: Path, cascade: Cascade, card: ModelCard) -> Path:
    """Write weights and card to `path` atomically; return `path`.

    Raises:
        CheckpointError: The card describes another network.
        TrainingError: The file cannot be written; an existing one is unchanged.
    """
    if cascade.config != card.network:
        raise CheckpointError(
            f"the model card is of {card.network}, expected the network of the weights, {cascade.config}"
        )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in cascade.state_dict().items()}
    return _save(path, weights, card)


def save_external(path: Path, onnx: bytes, card: ModelCard) -> Path:
    """Write an imported ONNX file and its card to `path` atomically; return `path`.

    Raises:
        TrainingError: The file cannot be written; an existing one is unchanged.
    """
    return _save(path, {ONNX: torch.frombuffer(bytearray(onnx), dtype=torch.uint8)}, card)


def _save(path: Path, tensors: dict[str, Tensor], card: ModelCard) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, metadata={CARD: card.to_json()})
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: cannot be written ({error}); what was there is kept, free space", code="write_failed"
        ) from error
    return path


def read_card(path: Path) -> ModelCard:
    """Return the card of a checkpoint; reads the header only.

    Raises:
        CheckpointError: The file is missing, damaged, or not a ct2pet model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    if CARD not in metadata:
        raise CheckpointError(f"{path}: a .safetensors file without a ct2pet model card", code="no_model_card")
    try:
        return ModelCard.from_json(metadata[CARD])
    except CheckpointError as error:  # add the file name
        raise error.with_message(f"{path}: {error}") from error


def load_checkpoint(path: Path, *, device: torch.device | None = None) -> tuple[Cascade, ModelCard]:
    """Return the cascade in evaluation mode, and its card.

    Raises:
        CheckpointError: See `read_card`; or the weights do not fit the card.
    """
    card = read_card(path)
    if card.external is not None:
        raise CheckpointError(
            f"{path}: {card.name} was imported as ONNX, so its weights cannot be trained or exported; give a model "
            "that was trained here",
            code="imported_model",
        )
    try:
        with torch.device("meta"):  # a card with a false size allocates no memory
            cascade = make_cascade(card.network)
        # copied: the file is memory-mapped and may be overwritten
        weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
        cascade.load_state_dict(weights, assign=True)
    except (RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path}: the weights do not fit the model card ({reason})") from error
    cascade.eval()
    return cascade.to(device=device, dtype=torch.float32, memory_format=torch.channels_last), card  # type: ignore[call-overload]


def load_network(path: Path, *, device: torch.device | None = None) -> tuple[SliceNetwork, ModelCard]:
    """Return the network of a checkpoint in evaluation mode, trained here or imported, and its card.

    Raises:
        CheckpointError: See `load_checkpoint`; or an imported network is not usable, or onnxruntime not installed.
    """
    card = read_card(path)
    if card.external is None:
        return load_checkpoint(path, device=device)
    try:
        with safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(ONNX)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: an imported network without its ONNX file ({error})") from error
    if tensor.dtype != torch.uint8:
        raise CheckpointError(f"{path}: an imported network of {tensor.dtype}, expected the bytes of an ONNX file")
    content = tensor.numpy().tobytes()
    return ExternalNetwork(content, card.external, config=card.network, windows=card.recipe.windows), card
