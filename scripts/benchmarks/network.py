"""Networks, volumes and prepared arrays to measure; needs only torch, monai, numpy, safetensors and ignite."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lib.errors import CT2PETError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import load_checkpoint, read_card, save_checkpoint
from lib.learning.model_card.card import ModelCard, TrainingData
from lib.learning.recipe import Recipe, load_recipe
from lib.networks.cascade import NetworkConfig, forward_flops
from lib.networks.ensemble import make_cascade, members_of
from lib.networks.precision import Precision, choose_device, has_bfloat16
from lib.networks.runtimes.names import RuntimeName
from lib.pairing.prepared import BODY, MEASURED, Preparation, PreparedPair, PreparedSet, write_index
from lib.synthesis.synthesizer import Synthesizer
from lib.types import BoolArray

SLICE_SPACING_MM = 3.0
PIXEL_MM = 2.0
FIELD_OF_VIEW_MM = 500.0  # of most CTs of a PET/CT
AIR_HU = -1000.0
RUNTIMES: tuple[RuntimeName, ...] = ("eager", "folded", "compiled")
MIDDLE = 0.3  # of the unit range, around which an untrained network draws: PETs below 0 would all be the same
ONE_DRAWING = ("synthesis.flips=false",)  # every slice drawn once, as by the peers


def recipe_of(args: argparse.Namespace, *settings: str) -> Recipe:
    """Return the recipe of the command line, with further settings."""
    return load_recipe(args.recipe, settings=(*args.set, *ONE_DRAWING, *settings))


def pixel_mm_of(recipe: Recipe) -> float:
    """Return the recipe's pixel size, or one for grids of a fixed size, so that a CT of it is not resampled."""
    return recipe.grid.pixel_mm or PIXEL_MM


def pixels_of(args: argparse.Namespace, recipe: Recipe) -> int:
    """Return the rows and columns for the network: of the command line, or of a usual field of view."""
    return int(args.pixels or recipe.grid.size or round(FIELD_OF_VIEW_MM / pixel_mm_of(recipe)))


def save_untrained(path: Path, recipe: Recipe) -> None:
    """Write a checkpoint of an untrained network, which takes as much computation as a trained one."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        cascade = make_cascade(recipe.network)
    for member in members_of(cascade):
        for stage in member.stages[:1] if recipe.network.residual_stages else member.stages:
            nn.init.constant_(stage.head.bias, MIDDLE)  # type: ignore[arg-type,union-attr]
    card = ModelCard(
        name="untrained", created="2026-01-01T00:00:00+00:00", recipe=recipe, network=recipe.network,
        training=TrainingData(patients=(), validation_patients=(), pairs=0, slices=0, digest="0"),
        epoch=0, scores=None, baselines=None, versions={},
    )  # fmt: skip
    save_checkpoint(path, cascade, card)


def save_model(args: argparse.Namespace, path: Path) -> ModelCard:
    """Write the model of the command line, or an untrained one, so that it computes no more than its network once.

    The average over mirrored CTs and the lookup of a card are left out, because the peers do not compute them; and what
    its training CTs have in common, because a phantom is unlike them.
    """
    if args.model is None:
        save_untrained(path, recipe_of(args, f"stages={args.stages}", f"members={args.members}"))
    else:
        cascade, card = load_checkpoint(args.model)
        recipe = replace(card.recipe, synthesis=replace(card.recipe.synthesis, flips=False))
        save_checkpoint(path, cascade, replace(card, recipe=recipe, lookup_weight=0.0, familiarity=None))
    return read_card(path)


def load_variants(path: Path, *, device: str, quick: bool) -> tuple[dict[str, Synthesizer], dict[str, str]]:
    """Return a model in every runtime and precision of this machine, and why the others are not available.

    Args:
        quick: Leave out what takes a minute to compile.
    """
    precisions: tuple[Precision, ...] = ("float32",)
    if has_bfloat16(choose_device(device).type):
        precisions = ("float32", "bfloat16")
    found, refused = {"as chosen": Synthesizer.load(path, device=device)}, {}
    for runtime in RUNTIMES[:-1] if quick else RUNTIMES:
        for precision in precisions[:1] if runtime == "eager" else precisions:
            name = f"{runtime} {precision}"
            try:
                found[name] = Synthesizer.load(path, device=device, precision=precision, runtime=runtime)
            except (CT2PETError, ImportError) as error:
                refused[name] = str(error)
    return found, refused


def gflop(network: NetworkConfig, *, rows: int, columns: int) -> float:
    """Return the GFLOP of a slice, padded as the network pads it."""
    step = 2**network.depth
    return forward_flops(network, rows=rows + -rows % step, columns=columns + -columns % step) / 1e9


def tissue_ct(slices: int, pixels: int, *, pixel_mm: float) -> Volume:
    """Return a CT that is tissue up to its border, so that no part of it can be skipped as air."""
    hu = np.random.default_rng(0).uniform(-100, 100, (slices, pixels, pixels)).astype(np.float32)
    return Volume(hu, _geometry(hu.shape, pixel_mm), Unit.HU)


def body_ct(slices: int, pixels: int, *, pixel_mm: float) -> tuple[Volume, BoolArray]:
    """Return the CT of an elliptic body in air, and the mask of the body, (K, R, C)."""
    y, x = np.mgrid[-1 : 1 : pixels * 1j, -1 : 1 : pixels * 1j]
    body = np.broadcast_to((x / 0.8) ** 2 + (y / 0.55) ** 2 < 1, (slices, pixels, pixels))
    hu = tissue_ct(slices, pixels, pixel_mm=pixel_mm)
    return replace(hu, array=np.where(body, hu.array, np.float32(AIR_HU))), body


def write_arrays(root: Path, preparation: Preparation, *, patients: int, slices: int, pixels: int) -> PreparedSet:
    """Write prepared arrays of elliptic bodies, one pair a patient."""
    ct, body = body_ct(slices, pixels, pixel_mm=preparation.grid.pixel_mm or PIXEL_MM)
    stored: dict[str, NDArray[Any]] = {
        "ct": ((ct.array + 1000) / 2000).astype(np.float16),
        "pet": (body * 0.3).astype(np.float16),
        "regions": (body * BODY + MEASURED).astype(np.uint8),
    }
    pairs = []
    for number in range(patients):
        pair = PreparedPair(
            id=f"pair{number}", patient_id=f"P{number}", study_instance_uid=f"2.25.{number}",
            ct_series_instance_uid=f"2.25.{number}.1", pet_series_instance_uid=f"2.25.{number}.2",
            shape=ct.geometry.shape, spacing_mm=ct.geometry.spacing_mm,
            affine=tuple(tuple(row) for row in ct.geometry.affine.tolist()), ct_slices=tuple(range(slices)),
            largest_offset_mm=0.0, source="computed", preparation=preparation.digest(),
        )  # fmt: skip
        folder = root / "pairs" / pair.id
        folder.mkdir(parents=True)
        for name, array in stored.items():
            np.save(folder / f"{name}.npy", array)
        pairs.append(pair)
    write_index(root, preparation, pairs)
    return PreparedSet.open(root)


def _geometry(shape: tuple[int, ...], pixel_mm: float) -> Geometry:
    slices, rows, columns = shape
    return Geometry.from_dicom(
        (slices, rows, columns),
        first_position_mm=(0, 0, 0),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(pixel_mm, pixel_mm),
        slice_spacing_mm=SLICE_SPACING_MM,
    )
