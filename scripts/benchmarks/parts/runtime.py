"""One slice by runtime, its GFLOP/s, and its share of the convolution peak that is measured in the same run."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import nn

from lib.learning.checkpoint import load_checkpoint
from lib.networks.precision import choose_device, has_bfloat16
from scripts.benchmarks.measure import Figure, Ratio, Result, Work, alternate, divide, walls
from scripts.benchmarks.network import gflop, load_variants, pixel_mm_of, pixels_of, save_model, tissue_ct

PEER = "eager float32, channels first"
# channels and pixels of 3x3 convolutions, none of which is limited by memory; the fastest is the peak
PEAK_SHAPES = ((64, 256), (128, 128), (256, 64))
CUDA_BATCH = 16


def measure(args: argparse.Namespace) -> Result:
    """Measure a slice of tissue in every runtime, in turn with plain PyTorch and with large convolutions."""
    device = choose_device(args.device)
    batch = CUDA_BATCH if device.type == "cuda" else 1
    slices = args.batches * batch
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as folder:
        path = Path(folder, "model.safetensors")
        recipe = save_model(args, path).recipe
        variants, refused = load_variants(path, device=args.device, quick=args.quick)
        cascade, _ = load_checkpoint(path, device=device)
    ct = tissue_ct(slices, pixels_of(args, recipe), pixel_mm=pixel_mm_of(recipe))
    recipe_grid = recipe.grid.on(ct.geometry).shape
    ours: dict[str, Work] = {
        name: partial(synthesizer.apply, ct, grid="network") for name, synthesizer in variants.items()
    }
    cascade = cascade.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    image = torch.rand(batch, recipe.network.context_slices, *recipe_grid[1:], device=device)
    peaks = _peaks(device, quick=args.quick)
    rivals: dict[str, Work] = {PEER: partial(_run, cascade, image), **ours}
    rivals |= {name: work for name, (work, _) in peaks.items()}
    times = alternate(rivals, repeats=args.repeats, device=device)

    per_slice_s = {PEER: walls(times[PEER], scale=1 / batch)}
    per_slice_s |= {name: walls(times[name], scale=1 / slices) for name in ours}
    cost = gflop(recipe.network, rows=recipe_grid[1], columns=recipe_grid[2])
    speeds = {name: tuple(cost / s for s in seconds) for name, seconds in per_slice_s.items()}
    peak_speeds = {name: tuple(amount / s for s in walls(times[name])) for name, (_, amount) in peaks.items()}
    fastest_peak = max(peak_speeds, key=lambda name: median(peak_speeds[name]))
    figures = [Figure("slice", "ms", tuple(1e3 * s for s in values), of=of) for of, values in per_slice_s.items()]
    figures += [Figure("speed", "GFLOP/s", values, of=of) for of, values in (speeds | peak_speeds).items()]
    ratios = [Ratio(f"{PEER} / {name}", divide(per_slice_s[PEER], per_slice_s[name])) for name in ours]
    ratios += [
        Ratio(f"{name}: share of the convolution peak", divide(speeds[name], peak_speeds[fastest_peak]))
        for name in per_slice_s
    ]
    run = {
        "recipe": recipe.name, "stages": recipe.network.stages, "slices": slices, "pixels": recipe_grid[1:],
        "gflop_per_slice": cost, "peak": fastest_peak, "not_available": refused,
    }  # fmt: skip
    return Result(run, figures, ratios)


def _run(network: nn.Module, image: torch.Tensor) -> None:
    with torch.inference_mode():
        network(image)


def _peaks(device: torch.device, *, quick: bool) -> dict[str, tuple[Work, float]]:
    """Return large channels-last convolutions by name, each with its GFLOP."""
    batch = CUDA_BATCH if device.type == "cuda" else 1
    peaks: dict[str, tuple[Work, float]] = {}
    for precision in ("float32", "bfloat16") if has_bfloat16(device.type) else ("float32",):
        for channels, pixels in ((8, 16),) if quick else PEAK_SHAPES:
            convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device)
            image = torch.rand(batch, channels, pixels, pixels, device=device)
            image = image.contiguous(memory_format=torch.channels_last)
            if precision == "bfloat16":
                convolution, image = convolution.bfloat16(), image.bfloat16()
            convolution = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            name = f"convolution {precision}, {channels} channels of {pixels} x {pixels}"
            amount = 2 * 9 * batch * channels**2 * pixels**2 / 1e9
            peaks[name] = partial(_run, convolution, image), amount
    return peaks
