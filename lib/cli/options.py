"""Arguments and options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from lib.networks.runtimes.names import RuntimeName

Studies = Annotated[Path, typer.Argument(metavar="STUDIES", help="Folder of DICOM studies, searched recursively.")]
StudiesOrArrays = Annotated[
    Path,
    typer.Argument(
        metavar="STUDIES|ARRAYS", help="Folder of DICOM studies, or of arrays written by `prepare`.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table to stdout.")]
Register = Annotated[
    bool,
    typer.Option(
        "--register", help="Register PETs to CTs with a different frame of reference, and pair those that match."
    ),
]
RecipeName = Annotated[str, typer.Option(help="paper, quantitative, or a .toml file.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a recipe setting, such as schedule.epochs=5. May be repeated."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Processes = Annotated[
    int,
    typer.Option(
        min=0,
        help="Networks that are trained at once, each in a process of its own; 0 for one on every processor "
        "(OMP_NUM_THREADS, if set) or GPU.",
    ),
]


def _runtime(name: str) -> RuntimeName:
    """Return the runtime of a name; Typer's own check of a Literal begins its message with "Value error"."""
    for known in get_args(RuntimeName):
        if name == known:
            return known
    raise typer.BadParameter(f"{name!r} is not one of {', '.join(get_args(RuntimeName))}.")


Runtime = Annotated[
    RuntimeName,
    typer.Option(
        parser=_runtime,
        metavar="|".join(get_args(RuntimeName)),
        help="How the network runs: auto is the fastest that stays close to float32.",
    ),
]
TrackingName = Annotated[str, typer.Option("--tracking", help="none, or mlflow to log the run to MLflow as it trains.")]
TrackingUri = Annotated[
    str,
    typer.Option(
        help="MLflow server or database, or a folder for one. Default: MLFLOW_TRACKING_URI, else the run's folder."
    ),
]
Experiment = Annotated[str, typer.Option(help="Name of the MLflow experiment.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of organ label maps (DICOM SEG or NIfTI, such as TotalSegmentator's), matched to CTs by series "
        "UID or patient ID.",
        show_default=False,
    ),
]
ModelFiles = Annotated[
    list[Path],
    typer.Option(
        "--model", help="A .safetensors file written by `train`. May be repeated to average models.", show_default=False
    ),
]
ModelFile = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A .safetensors file written by `train`.", show_default=False)
]
