"""Measure seconds per slice and TFLOP/s of the network alone; needs only torch, monai, numpy and safetensors."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.learning.recipe import load_recipe
from lib.networks.cascade import Cascade
from lib.networks.precision import autocast, choose_device


def measure_synthesis(args: argparse.Namespace) -> dict[str, Any]:
    """Measure seconds per slice and TFLOP/s of the recipe's untrained network for each batch size and precision."""
    recipe = load_recipe(args.recipe, settings=("stages=1", *args.set))
    device = choose_device(args.device)
    cascade = Cascade(recipe.network).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows, columns = args.pixels, args.pixels
    runs = []
    for precision in args.precision.split(","):
        for batch in map(int, args.batch.split(",")):
            shape = (batch, recipe.network.context_slices, rows, columns)
            ct = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), autocast(device, precision):
                with FlopCounterMode(display=False) as counter:
                    cascade(ct)
                seconds = _seconds(lambda ct=ct: cascade(ct), device, repeats=args.repeats)
            per_slice = seconds / batch
            tflops = counter.get_total_flops() / seconds / 1e12
            runs.append({"precision": precision, "batch": batch, "s_per_slice": per_slice, "tflop_per_s": tflops})
    network = {"recipe": recipe.name, "stages": recipe.network.stages, "base_channels": recipe.network.base_channels}
    return {**network, "device": str(device), "shape": [rows, columns], "runs": runs}


def _seconds(work: Any, device: torch.device, *, repeats: int) -> float:
    """Return the median duration of `repeats` calls after a warm-up call, seconds."""
    work()
    latencies_s = []
    for _ in range(repeats):
        _finish(device)
        began = time.perf_counter()
        work()
        _finish(device)
        latencies_s.append(time.perf_counter() - began)
    return statistics.median(latencies_s)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
