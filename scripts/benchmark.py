"""Measure speed on this machine. See `scripts/benchmark --help`. No test depends on the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from lib.errors import CT2PETError  # noqa: E402
from lib.learning.recipe import DEFAULT_RECIPE  # noqa: E402


def main() -> int:
    """Run the selected benchmark and return the exit status."""
    args = _arguments()
    before = machine()
    try:
        results = _measure(args.part)(args)
    except CT2PETError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    text = json.dumps({"part": args.part, "machine": before, **results}, indent=2)
    if args.out is not None:
        args.out.write_text(f"{text}\n")
    print(text)
    return 0


def machine() -> dict[str, Any]:
    """Return the hardware and versions that the results depend on."""
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "cuda": cuda,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_1_min_before": round(os.getloadavg()[0], 1),
    }


def _measure(part: str) -> Callable[[argparse.Namespace], dict[str, Any]]:
    # imported here: the benchmark of the network also runs without the other libraries
    if part == "synthesis":
        from scripts.benchmarks.network import measure_synthesis

        return measure_synthesis
    if part == "server":
        from scripts.benchmarks.server import measure_server

        return measure_server
    from scripts.benchmarks.slabs import measure_slabs

    return measure_slabs


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    server = parts.add_parser("server", help="latency of the server during the synthesis of 300 slices; target 0.5 s")
    slabs = parts.add_parser("slabs", help="time to the first slab of a PET in Slicer")
    synthesis = parts.add_parser("synthesis", help="seconds per slice and TFLOP/s of the network")
    for part in (server, slabs, synthesis):
        part.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
        part.add_argument(
            "--recipe", default=DEFAULT_RECIPE, help=f"recipe of the untrained network (default {DEFAULT_RECIPE})"
        )
        part.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe setting")
        part.add_argument("--out", type=Path, help="also write the results as JSON to this file")
    for part in (server, slabs):
        part.add_argument("--model", type=Path, help="checkpoint with one stage (default: an untrained network)")
        part.add_argument("--studies", type=Path, help="DICOM folder whose first CT is used (default: a phantom)")
        part.add_argument("--slices", type=int, default=300, help="slices of the phantom (default 300)")
        part.add_argument("--matrix", type=int, default=512, help="rows and columns of the phantom's CT (default 512)")
    server.add_argument("--requests", type=int, default=100, help="minimum number, else a warning (default 100)")
    synthesis.add_argument("--batch", default="1,4,16", help="batch sizes (default 1,4,16)")
    synthesis.add_argument(
        "--precision",
        default="float32,auto",
        help="float32, bfloat16, auto (default float32,auto)",
    )
    synthesis.add_argument("--pixels", type=int, default=256, help="rows and columns of the input (default 256)")
    synthesis.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
