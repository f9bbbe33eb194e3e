"""A slice alone, and next to one and two other computing processes, by how OpenMP's threads wait for each other."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from lib.errors import InputError
from lib.networks.runtimes.names import RuntimeName
from scripts.benchmarks.measure import Figure, Ratio, Result, divide
from scripts.benchmarks.network import pixel_mm_of, pixels_of, recipe_of, save_untrained
from scripts.benchmarks.programs import ROOT

# Runtime and environment of a process of its own, since OpenMP reads it when torch is imported. "As shipped" is what
# ct2pet sets itself, "default" what libgomp does. Only PyTorch computes with OpenMP.
SETTINGS: dict[str, tuple[RuntimeName, dict[str, str]]] = {
    "as shipped": ("auto", {}),
    "PyTorch, as shipped": ("folded", {}),
    "PyTorch, GOMP_SPINCOUNT=10000": ("folded", {"GOMP_SPINCOUNT": "10000"}),
    "PyTorch, OMP_WAIT_POLICY=PASSIVE": ("folded", {"OMP_WAIT_POLICY": "PASSIVE"}),
    "PyTorch, default": ("folded", {"GOMP_SPINCOUNT": "30000000000"}),
}
NEIGHBOURS = 2  # processes, at most
SLOWER = 3.0  # next to one other process, at most, as shipped


def measure(args: argparse.Namespace) -> Result:
    """Measure a slice in every setting, alone and next to others of the same setting, in turn."""
    recipe = recipe_of(args, f"stages={args.stages}")
    settings = dict(list(SETTINGS.items())[:1]) if args.quick else SETTINGS
    times_s: dict[str, list[list[float]]] = {name: [[] for _ in range(NEIGHBOURS + 1)] for name in settings}
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as folder:
        model = Path(folder, "model.safetensors")
        save_untrained(model, recipe)
        command = [sys.executable, "-m", "scripts.benchmarks.parts.slice_loop", str(model), args.device]
        command += [str(pixels_of(args, recipe)), str(pixel_mm_of(recipe))]
        for _, name in itertools.product(range(args.repeats), settings):
            runtime, environment = settings[name]
            with _started([*command, runtime], _environment(environment)) as (measured, *others):
                times_s[name][0].append(_slice_s(measured, args.drawn))
                for count, other in enumerate(others, start=1):
                    _tell(other, 0)
                    times_s[name][count].append(_slice_s(measured, args.drawn))
    figures = [
        Figure(f"slice next to {count}" if count else "slice alone", "ms", tuple(1e3 * s for s in values), of=name)
        for name, by_number in times_s.items()
        for count, values in enumerate(by_number)
    ]
    ratios = [
        Ratio(
            f"{name}: next to {count} / alone",
            divide(by_number[count], by_number[0]),
            at_most=SLOWER if count == 1 and not settings[name][1] else None,
        )
        for name, by_number in times_s.items()
        for count in range(1, NEIGHBOURS + 1)
    ]
    run = {
        "recipe": recipe.name,
        "stages": args.stages,
        "pixels": pixels_of(args, recipe),
        "slices_per_round": args.drawn,
    }
    return Result(run, figures, ratios)


def _environment(setting: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    return {**kept, **setting}


@contextlib.contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Yield one process to measure and its neighbours, all of them ready and idle; end them afterwards."""
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(NEIGHBOURS + 1):
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            if _line(process) != "ready":
                raise InputError(f"{' '.join(command)} does not start; run it to see why")
        yield processes


def _slice_s(process: subprocess.Popen[str], slices: int) -> float:
    """Return the median time of a slice in a process, s."""
    _tell(process, slices)
    return median(json.loads(_line(process)))


def _tell(process: subprocess.Popen[str], slices: int) -> None:
    assert process.stdin is not None
    print(slices, file=process.stdin, flush=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
