"""How fast is it on this machine? See `scripts/benchmark --help`. Nothing here is a test: a machine may be busy."""

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
    """Do what the command line says; return the exit status."""
    asked = _arguments()
    before = machine()
    try:
        found = _measure(asked.part)(asked)
    except CT2PETError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    text = json.dumps({"part": asked.part, "machine": before, **found}, indent=2)
    if asked.out is not None:
        asked.out.write_text(f"{text}\n")
    print(text)
    return 0


def machine() -> dict[str, Any]:
    """Return what figures depend on."""
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
    # each brings its own libraries: the network is measured on machines that have no others
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
    server = parts.add_parser("server", help="does the server answer within 0.5 s while it draws 300 slices?")
    slabs = parts.add_parser("slabs", help="how soon is the first part of a PET on Slicer's screen?")
    synthesis = parts.add_parser("synthesis", help="seconds a slice and TFLOP/s of the network")
    for part in (server, slabs, synthesis):
        part.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
        part.add_argument(
            "--recipe", default=DEFAULT_RECIPE, help=f"of the untrained network (default {DEFAULT_RECIPE})"
        )
        part.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="on top of the recipe")
        part.add_argument("--out", type=Path, help="write the figures as JSON here, too")
    for part in (server, slabs):
        part.add_argument("--model", type=Path, help="a checkpoint of one stage (default: an untrained network)")
        part.add_argument("--studies", type=Path, help="DICOM folder, its first CT (default: a phantom)")
        part.add_argument("--slices", type=int, default=300, help="of the phantom (default 300)")
        part.add_argument("--matrix", type=int, default=512, help="rows and columns of the phantom's CT (default 512)")
    server.add_argument("--requests", type=int, default=100, help="at least so many are wanted (default 100)")
    synthesis.add_argument("--batch", default="1,4,16", help="slices at once (default 1,4,16)")
    synthesis.add_argument("--precision", default="float32,auto", help="of float32, bfloat16, auto")
    synthesis.add_argument("--pixels", type=int, default=256, help="of the network's grid (default 256)")
    synthesis.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
