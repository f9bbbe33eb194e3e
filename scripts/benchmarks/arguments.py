"""The command line of scripts/benchmark: its parts, the options of each, and the sizes of --quick."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.learning.cross_validation.folds import DEFAULT_FOLDS
from lib.learning.recipe import DEFAULT_RECIPE

SLICES, VOLUME_SLICES = 300, 134
Options = Callable[[argparse.ArgumentParser], None]
# for tests: every part in seconds
QUICK = {
    "repeats": 1, "members": 2, "slices": 8, "matrix": 64, "pixels": 32, "batches": 2, "drawn": 2, "patients": 10,
    "patient_slices": 2, "instances": 40, "slice_counts": (4, 8), "study_counts": (1, 2), "requests": 1, "epochs": 1,
}  # fmt: skip
QUICK_NETWORK = (
    "pixel_mm=8.0", "base_channels=2", "depth=1", "context_slices=3", "batches.size=4", "batches.patch=32",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
        teaches: What it measures, for --help.
        options: Groups of options.
        is_bare: Whether it runs on a machine with only torch, monai, numpy, safetensors and ignite, with --gpu.
    """

    teaches: str
    options: tuple[Options, ...]
    is_bare: bool = False


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line; `parts` are the parts to run."""
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description="Measure speed and memory on this machine.")
    parsers = parser.add_subparsers(dest="part", required=True, metavar="PART")
    for name, part in PARTS.items():
        described = parsers.add_parser(name, help=part.teaches, description=part.teaches)
        for options in (_common, *part.options):
            options(described)
    every = parsers.add_parser("all", help="every part, and a page of the results", description="Run every part.")
    for options in (_common, *dict.fromkeys(options for part in PARTS.values() for options in part.options)):
        options(every)
    args = parser.parse_args(arguments)
    args.parts = [name for name in PARTS if args.part in (name, "all")]
    if args.gpu:
        args.parts = [name for name in args.parts if PARTS[name].is_bare]
        if not args.parts:
            parser.error(f"{args.part} needs more than a bare machine has; leave out --gpu")
    if args.quick:
        vars(args).update({key: value for key, value in QUICK.items() if hasattr(args, key)})
        args.set = [*QUICK_NETWORK, *args.set]
    return args


def for_part(args: argparse.Namespace, part: str) -> argparse.Namespace:
    """Return the command line with the defaults of a part."""
    own = argparse.Namespace(**vars(args))
    if getattr(args, "slices", 0) is None:
        own.slices = VOLUME_SLICES if part in ("synthesis", "viewer") and not args.gpu else SLICES
    if part == "synthesis":
        own.peer = args.peer or ["monai"]
    return own


def module_of(part: str) -> str:
    """Return the module that measures a part."""
    return f"scripts.benchmarks.parts.{part.replace('-', '_')}"


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, help=f"of the untrained network (default {DEFAULT_RECIPE})")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a recipe setting")
    parser.add_argument("--stages", type=int, default=1, help="of the untrained network (default 1)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which all rivals take turns (default 5)")
    parser.add_argument("--out", type=Path, help="folder for PART.json and a README.md of all results there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the command; the times mean nothing")
    parser.add_argument(
        "--gpu", action="store_true", help="only what needs torch, monai, numpy, safetensors and ignite alone"
    )


def _image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pixels", type=int, help="rows and columns for the network (default: of 500 mm, with the recipe's pixels)"
    )


def _batches(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=8, help="a round, of 16 slices on a GPU, else 1 (default 8)")


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="checkpoint (default: untrained networks of the recipe)")
    parser.add_argument("--members", type=int, default=DEFAULT_FOLDS, help="networks of the untrained model (default "
                        f"{DEFAULT_FOLDS}, as train --refit makes)")  # fmt: skip


def _ct(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ct", type=Path, help="DICOM folder of a CT (default: a phantom)")
    parser.add_argument("--slices", type=int, help="of the CT that is computed (default 300; synthesis, viewer: 134)")


def _matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--matrix", type=int, default=512, help="rows and columns of the phantom's CT (default 512)")


def _synthesis(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peer", action="append", choices=("monai", "konfai"), help="rival, may be repeated (default monai)"
    )


def _training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--patients", type=int, default=20, help="with prepared arrays (default 20)")
    parser.add_argument("--patient-slices", type=int, default=64, help="of each patient (default 64)")


def _scan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instances", type=int, default=100_000, help="in the folder (default 100000)")


def _memory(parser: argparse.ArgumentParser) -> None:
    pair = {"type": int, "nargs": 2}
    parser.add_argument("--slice-counts", **pair, default=(300, 1000), help="of two CTs (default 300 1000)")  # type: ignore[arg-type]
    parser.add_argument("--study-counts", **pair, default=(10, 100), help="of two folders (default 10 100)")  # type: ignore[arg-type]


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=4, help="of each client a round (default 4)")


def _epochs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=3, help="of each training (default 3)")


def _neighbours(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drawn", type=int, default=20, help="slices of each round (default 20)")


PARTS = {
    "runtime": Part(
        "one slice by runtime, GFLOP/s, share of the convolution peak", (_image, _model, _batches), is_bare=True
    ),
    "synthesis": Part(
        "a whole volume, network alone and DICOM to DICOM, next to other programs",
        (_image, _model, _ct, _matrix, _synthesis), is_bare=True,
    ),
    "cascade": Part("cascades of 1 to 6 stages, per stage", (_image, _batches), is_bare=True),
    "training": Part("training step, waiting for data, validation", (_image, _training), is_bare=True),
    "slabs": Part("the first slab of a PET in Slicer, and the second request", (_model, _ct, _matrix)),
    "viewer": Part("the first slab of a PET in the viewer, in Chromium", (_model, _ct, _matrix)),
    "scan": Part("scan and re-scan of a folder of DICOM files", (_scan,)),
    "memory": Part("peak memory against slices and studies", (_model, _matrix, _memory)),
    "server": Part("the server under 1, 4 and 16 clients", (_model, _ct, _matrix, _server)),
    "during-training": Part("requests and a training of the same server", (_model, _ct, _matrix, _server, _epochs)),
    "neighbours": Part("a slice next to other computing processes, by how OpenMP waits", (_image, _neighbours)),
}  # fmt: skip
