"""`phantom`: write synthetic CT/PET studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import print_json, print_line, progress_bar
from lib.cli.options import AsJson


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder, created if missing.")],
    patients: Annotated[int, typer.Option(help="Number of patients, 1 to 9999.")] = 4,
    seed: Annotated[int, typer.Option(help="Random seed; each seed gives different patients.")] = 0,
    slices: Annotated[int, typer.Option(help="Slices per scan, 3.27 mm apart.")] = 40,
    labels: Annotated[
        bool, typer.Option("--labels", help="Also write the true organs, as NIfTI and as DICOM SEG.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write chest phantoms as DICOM studies of CT and PET, to try every command without patient data.

    The same seed gives the same files. As in patients, part of the uptake cannot be inferred from the CT: that of the
    heart, the overall level, and lesions that are not visible on CT. Good results on phantoms say nothing about
    patients.

    The JSON is a list of the patients' folders.
    """
    from lib.phantom.generate import PhantomSettings, write_phantoms

    with progress_bar() as progress:
        settings = PhantomSettings(slices=slices)
        folders = write_phantoms(out, patients=patients, seed=seed, settings=settings, labels=labels, progress=progress)
    if as_json:
        print_json(folders)
        return
    for folder in folders:
        print_line(str(folder))
