"""`synthesize`: predict the PET of a CT."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lib.cli.console import print_json, print_line, progress_bar, stderr
from lib.cli.options import AsJson, Device, ModelFiles
from lib.errors import InputError
from lib.types import Progress

if TYPE_CHECKING:
    from lib.dicom.write.pet_series import PlannedSeries
    from lib.imaging.volume import Volume
    from lib.learning.familiarity.assessment import Familiarity
    from lib.learning.familiarity.profile import HeaderFacts
    from lib.synthesis.ensemble import Ensemble
    from lib.synthesis.synthesizer import Synthesizer


def synthesize(
    ct: Annotated[Path, typer.Argument(help="DICOM folder of a CT, or a .nii.gz, .nrrd or .mha file in HU.")],
    models: ModelFiles,
    out: Annotated[
        Path, typer.Option(help="Output file (.nrrd, .nii.gz or .mha), or folder for DICOM.", show_default=False)
    ],
    form: Annotated[
        str, typer.Option("--format", help="dicom, nrrd or nifti. Default: from the name of the output file.")
    ] = "",
    slices: Annotated[str, typer.Option(help="Slice range A:B, counted from 0. Default: all slices.")] = "",
    series: Annotated[str | None, typer.Option(help="SeriesInstanceUID, if the folder contains several CTs.")] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(help="Output file for the expected absolute error of each voxel, SUVbw.", show_default=False),
    ] = None,
    allow_unlike: Annotated[
        bool, typer.Option("--allow-unlike", help="Synthesise even if the CT is unlike the training CTs.")
    ] = False,
    compress: Annotated[
        bool, typer.Option("--compress", help="Compress the .nrrd, .nii.gz or .mha file to a third; takes longer.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Synthesise the PET of a CT, in SUVbw on the CT's grid. Research only, not for diagnosis.

    With --format dicom, write a PET series in the CT's study, one file per slice, labelled as synthetic. The same CT
    and model give the same series.

    A CT that is unusual compared with the training CTs gets a warning; one that is unlike them is refused.

    The JSON is `{out, model, sha256, shape, spacing_mm, suv_max, suv_mean, familiarity}`, with `uncertainty` and
    `series_instance_uid` (DICOM only) if requested.
    """
    from lib.dicom.write.files import write_series
    from lib.imaging.files.volume_file import FAST, STORED, write_volume_file
    from lib.synthesis.ensemble import load_models

    compression = FAST if compress else STORED
    as_dicom = _check_outputs(out, uncertainty, form=form)  # before the work that takes time
    synthesizer = load_models(models, device=device)
    with progress_bar() as progress:
        opened = _open(ct, series, synthesizer, out if as_dicom else None, progress)
        familiarity = _check_familiarity(opened, synthesizer, ct.name, allow_unlike=allow_unlike)
        pet = _predict(opened.volume, synthesizer, slices, progress, uncertainty, compression)
        if opened.planned is None:
            write_volume_file(pet, out, compression=compression)
        else:
            planned = replace(opened.planned, warning=familiarity.warning)
            write_series(planned.fill(pet), out, progress=progress)
    suv_max, suv_mean = float(pet.array.max()), float(pet.array.mean())
    if not as_json:
        print_line(
            f"{out}: SYNTHETIC PET, SUVbw mean {suv_mean:.2f}, max {suv_max:.2f}. Research only, NOT FOR DIAGNOSIS."
        )
        return
    print_json(
        {
            "out": out,
            "model": synthesizer.card.name,
            "sha256": synthesizer.checksum,
            "shape": pet.geometry.shape,
            "spacing_mm": pet.geometry.spacing_mm,
            "suv_max": suv_max,
            "suv_mean": suv_mean,
            **({} if uncertainty is None else {"uncertainty": uncertainty}),
            **({} if opened.planned is None else {"series_instance_uid": opened.planned.uid}),
            "familiarity": familiarity.as_json(),
        }
    )


def _check_outputs(out: Path, uncertainty: Path | None, *, form: str) -> bool:
    """Return whether to write a DICOM series; raise InputError for output names that are not valid."""
    from lib.imaging.files.volume_file import volume_suffix, wants_dicom

    if uncertainty is not None:
        volume_suffix(uncertainty)
        if uncertainty.resolve() == out.resolve():
            raise InputError(f"{out}: the synthetic PET and its uncertainty need two files")
    return wants_dicom(out, named=form)


@dataclass(frozen=True)
class _Opened:
    """A CT, the facts of its header, and the series to write, if any."""

    volume: Volume
    facts: HeaderFacts
    planned: PlannedSeries | None


def _open(
    ct: Path, series_uid: str | None, synthesizer: Synthesizer | Ensemble, dicom_out: Path | None, progress: Progress
) -> _Opened:
    """Return the CT; raise InputError if the folder for a DICOM series contains another series."""
    from lib.dicom.scan.open_ct import find_ct, read_ct_file, read_ct_series
    from lib.dicom.write.files import refuse_foreign_files
    from lib.synthesis.dicom_out import plan_pet_series
    from lib.synthesis.familiarity import UNKNOWN_FACTS, read_header_facts

    if ct.is_file() and dicom_out is None:
        return _Opened(read_ct_file(ct), UNKNOWN_FACTS, None)
    series = find_ct(ct, series_uid=series_uid, progress=progress)
    planned = None
    if dicom_out is not None:
        planned = plan_pet_series(synthesizer, series)
        refuse_foreign_files(dicom_out, planned.uid)
    return _Opened(read_ct_series(series, progress=progress), read_header_facts(series), planned)


def _check_familiarity(
    opened: _Opened, synthesizer: Synthesizer | Ensemble, name: str, *, allow_unlike: bool
) -> Familiarity:
    """Return whether the CT resembles the training CTs, and warn if not; raise InputError if it is unlike them."""
    from lib.synthesis.familiarity import check_familiarity, refuse_unlike

    familiarity = check_familiarity(synthesizer, opened.volume, opened.facts)
    if not allow_unlike:
        refuse_unlike(familiarity, name)
    if familiarity.warning:
        print_line(f"warning: {familiarity.warning}", stderr)
    return familiarity


def _predict(
    ct: Volume,
    synthesizer: Synthesizer | Ensemble,
    slices: str,
    progress: Progress,
    uncertainty: Path | None,
    compression: int,
) -> Volume:
    """Return the synthetic PET; write its expected error to the file `uncertainty`."""
    from lib.imaging.files.volume_file import write_volume_file
    from lib.imaging.geometry import parse_slab
    from lib.synthesis.uncertainty import apply_with_uncertainty

    if uncertainty is None:
        return synthesizer.apply(ct, parse_slab(slices), progress=progress)
    pet, error = apply_with_uncertainty(synthesizer, ct, parse_slab(slices), progress=progress)
    write_volume_file(error, uncertainty, compression=compression)
    return pet
