"""The options of `cohort run`, and what their values mean: where the CTs are, and which engine works on them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lib.errors import InputError
from lib.types import Progress

if TYPE_CHECKING:
    from lib.cohort.engine import Engine
    from lib.cohort.pacs import PacsAddress
    from lib.cohort.plan import PlannedCase
    from lib.cohort.settings import StudySettings

USERNAME, PASSWORD, TOKEN = "CT2PET_PACS_USERNAME", "CT2PET_PACS_PASSWORD", "CT2PET_PACS_TOKEN"

StudiesOrPacs = Annotated[
    str,
    typer.Argument(
        metavar="STUDIES|URL",
        help="Folder of DICOM studies, searched recursively, or the DICOMweb address of a PACS. Its credentials "
        f"are in {USERNAME} and {PASSWORD}, or {TOKEN}.",
        show_default=False,
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        metavar="local|ray|ray://HOST:PORT",
        help="local: this process. ray: all processors or GPUs of this machine, or of the cluster in RAY_ADDRESS. "
        "ray://HOST:PORT: a cluster elsewhere.",
    ),
]
OutFolder = Annotated[Path, typer.Option(help="Folder for the series, the record and the report.")]
Store = Annotated[
    bool, typer.Option("--store", help="Store the series in the PACS that the CTs come from, not in OUT.")
]
Where = Annotated[
    str,
    typer.Option(
        metavar="KEYWORD=VALUE,...",
        help="Only CTs with these DICOM attributes, such as BodyPartExamined=CHEST; * and ? are wildcards.",
    ),
]
Limit = Annotated[int, typer.Option(min=0, help="At most so many CTs, in the order of their UIDs; 0: all.")]
Retries = Annotated[int, typer.Option(min=0, help="How often a study that fails is tried again.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Synthesizers of the engine ray; 0: one a GPU, else what the processors allow.")
]
Threads = Annotated[int, typer.Option(min=1, help="Processors of each synthesizer of the engine ray.")]
AllowUnlike = Annotated[
    bool, typer.Option("--allow-unlike", help="Synthesise even if a CT is unlike the training CTs.")
]


def pacs_address(studies: str) -> PacsAddress | None:
    """Return the PACS of a DICOMweb address, with the credentials of the environment; None for a folder.

    Raises:
        InputError: The address is invalid, or only one of user name and password is given.
    """
    if not studies.lower().startswith(("http://", "https://")):
        return None
    from lib.cohort.pacs import PacsAddress
    from lib.dicom.remote.session import Credentials

    username, password, token = (os.environ.get(name, "") for name in (USERNAME, PASSWORD, TOKEN))
    address = PacsAddress(studies, Credentials(username, password, token))
    address.connect()  # checks the address
    return address


def plan_of(studies: str, settings: StudySettings, *, limit: int, progress: Progress) -> Iterator[PlannedCase]:
    """Yield the CTs of a folder or a PACS; see `lib.cohort.plan`."""
    from lib.cohort.plan import plan_folder, plan_pacs, refuse_other_modality

    refuse_other_modality(settings.filters)
    if settings.pacs is not None:
        return plan_pacs(settings.pacs, settings.filters, limit=limit)
    return plan_folder(Path(studies), settings.filters, limit=limit, progress=progress)


def engine_named(name: str) -> Engine:
    """Return the engine `local`, `ray` or `ray://HOST:PORT`.

    Raises:
        InputError: Another name, or Ray is not installed.
    """
    if name == "local":
        from lib.cohort.local_engine import run_locally

        return run_locally
    if name == "ray" or name.startswith("ray://"):
        from lib.cohort.ray_cluster import require_ray
        from lib.cohort.ray_engine import run_on_ray

        require_ray()
        return partial(run_on_ray, address=name)
    raise InputError(f"--engine {name}: expected local, ray, or ray://HOST:PORT of a Ray cluster")
