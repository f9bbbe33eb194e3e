"""A slice through cascades of 1 to 6 stages, per stage, compared with one stage."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from lib.networks.cascade import MAX_STAGES
from lib.networks.precision import choose_device
from lib.synthesis.synthesizer import Synthesizer
from scripts.benchmarks.measure import Figure, Ratio, Result, Work, alternate, walls
from scripts.benchmarks.network import gflop, pixel_mm_of, pixels_of, recipe_of, save_untrained, tissue_ct
from scripts.benchmarks.parts.runtime import CUDA_BATCH

TARGET = 1.02  # per stage, times one stage


def measure(args: argparse.Namespace) -> Result:
    """Measure the same slices in cascades of every length, in turn."""
    device = choose_device(args.device)
    slices = args.batches * (CUDA_BATCH if device.type == "cuda" else 1)
    numbers = range(1, (2 if args.quick else MAX_STAGES) + 1)
    recipes = {stages: recipe_of(args, f"stages={stages}") for stages in numbers}
    ct = tissue_ct(slices, pixels_of(args, recipes[1]), pixel_mm=pixel_mm_of(recipes[1]))
    _, rows, columns = recipes[1].grid.on(ct.geometry).shape
    rivals: dict[str, Work] = {}
    for stages, recipe in recipes.items():
        with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as folder:
            path = Path(folder, "model.safetensors")
            save_untrained(path, recipe)
            synthesizer = Synthesizer.load(path, device=args.device)
        rivals[_label(stages)] = partial(synthesizer.apply, ct, grid="network")
    times = alternate(rivals, repeats=args.repeats, device=device)
    per_slice_s = {stages: walls(times[_label(stages)], scale=1 / slices) for stages in numbers}
    figures = [
        Figure("slice", "ms", tuple(1e3 * s for s in values), of=_label(stages))
        for stages, values in per_slice_s.items()
    ]
    cost = {stages: gflop(recipe.network, rows=rows, columns=columns) for stages, recipe in recipes.items()}
    figures += [
        Figure("speed", "GFLOP/s", tuple(cost[stages] / s for s in values), of=_label(stages))
        for stages, values in per_slice_s.items()
    ]
    ratios = [
        Ratio(
            f"{_label(stages)}, per stage / one stage",
            tuple(several / (stages * one) for several, one in zip(values, per_slice_s[1], strict=True)),
            at_most=TARGET,
        )
        for stages, values in per_slice_s.items()
        if stages > 1
    ]
    run = {"recipe": recipes[1].name, "slices": slices, "pixels": (rows, columns), "gflop_per_slice": cost}
    return Result(run, figures, ratios)


def _label(stages: int) -> str:
    return "one stage" if stages == 1 else f"{stages} stages"
