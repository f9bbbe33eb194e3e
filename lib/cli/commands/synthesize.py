"""`synthesize`: predict the PET of a CT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lib.cli.console import print_json, print_line, progress_bar, stderr
from lib.cli.garbage_collection import collector_paused
from lib.cli.options import AsJson, Device, ModelFiles, Runtime
from lib.errors import InputError
from lib.types import Progress

if TYPE_CHECKING:
    from lib.dicom.write.pet_series import PlannedSeries
    from lib.imaging.volume import Volume
    from lib.learning.familiarity.assessment import Familiarity
    from lib.networks.runtimes.names import RuntimeName
    from lib.synthesis.ensemble import Ensemble
    from lib.synthesis.synthesizer import Synthesizer
    from lib.types import Series


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
    runtime: Runtime = "auto",
    as_json: AsJson = False,
) -> None:
    """Synthesise the PET of a CT, in SUVbw on the CT's grid. Research only, not for diagnosis.

    With --format dicom, write a PET series in the CT's study, one file per slice, labelled as synthetic. The same CT
    and model give the same series.

    A CT that is unusual compared with the training CTs gets a warning; one that is unlike them is refused.

    The JSON is `{out, model, sha256, runtime, shape, spacing_mm, suv_max, suv_mean, familiarity}`, with `uncertainty`
    and `series_instance_uid` (DICOM only) if requested.
    """
    from lib.imaging.files.volume_file import FAST, STORED
    from lib.imaging.geometry import parse_slab

    compression = FAST if compress else STORED
    as_dicom = _check_outputs(out, uncertainty, form=form, compress=compress)  # before the work that takes time
    with _reading(ct, series, as_dicom=as_dicom) as read, progress_bar() as progress, ThreadPoolExecutor(1) as thread:
        synthesizer = _load(models, device, runtime)
        volume, source = read(progress)
        familiarity = _check_familiarity(synthesizer, volume, source, ct.name, allow_unlike=allow_unlike)
        request = _Request(synthesizer, volume, parse_slab(slices), progress, uncertainty, compression)
        if as_dicom and source is not None:
            planning = thread.submit(_plan, synthesizer, source, familiarity.warning, out)
            result = _write_dicom(request, planning, out)
        else:
            result = _write_file(request, out)
    if as_json:
        print_json(_as_json(request, familiarity, result, out))
        return
    print_line(
        f"{out}: SYNTHETIC PET, SUVbw mean {result.suv_mean:.2f}, max {result.suv_max:.2f}. "
        "Research only, NOT FOR DIAGNOSIS."
    )
    if not familiarity.warning and familiarity.score is None:  # a warning was printed before the synthesis
        print_line(familiarity.sentence)


def _as_json(request: _Request, familiarity: Familiarity, result: _Result, out: Path) -> dict[str, object]:
    synthesizer = request.synthesizer
    return {
        "out": out,
        "model": synthesizer.card.name,
        "sha256": synthesizer.checksum,
        "runtime": synthesizer.runtime.as_json(),
        "shape": result.shape,
        "spacing_mm": request.ct.geometry.spacing_mm,
        "suv_max": result.suv_max,
        "suv_mean": result.suv_mean,
        **({} if request.uncertainty is None else {"uncertainty": request.uncertainty}),
        **({} if result.series_uid is None else {"series_instance_uid": result.series_uid}),
        "familiarity": familiarity.as_json(),
    }


def _check_outputs(out: Path, uncertainty: Path | None, *, form: str, compress: bool) -> bool:
    """Return whether to write a DICOM series; raise InputError for outputs that are not valid."""
    from lib.imaging.files.volume_file import volume_suffix, wants_dicom

    if uncertainty is not None:
        volume_suffix(uncertainty)
        if uncertainty.resolve() == out.resolve():
            raise InputError(f"{out}: the synthetic PET and its uncertainty need two files")
    as_dicom = wants_dicom(out, named=form)
    if compress and as_dicom and uncertainty is None:
        raise InputError("--compress is for .nrrd, .nii.gz and .mha files; a DICOM series is not compressed: omit it")
    return as_dicom


@contextmanager
def _reading(
    ct: Path, series_uid: str | None, *, as_dicom: bool
) -> Iterator[Callable[[Progress], tuple[Volume, Series | None]]]:
    """Return a context with a function that returns the CT and its series; a volume file has none.

    The CT is read from the beginning of the context on, by another process, while this one imports torch.
    """
    from lib.cli.reading_ahead import reading_ahead
    from lib.dicom.scan.open_ct import read_ct_file

    if ct.is_file() and not as_dicom:
        with ThreadPoolExecutor(1, "read") as thread:
            reading = thread.submit(read_ct_file, ct)
            yield lambda _: (reading.result(), None)
        return
    with reading_ahead(ct, series_uid) as read:
        yield read


def _load(models: list[Path], device: str, runtime: RuntimeName) -> Synthesizer | Ensemble:
    """Return the models, with torch imported for them."""
    with collector_paused():
        from lib.synthesis.ensemble import load_models

        return load_models(models, device=device, runtime=runtime)


def _plan(synthesizer: Synthesizer | Ensemble, series: Series, warning: str, out: Path) -> PlannedSeries:
    """Return the DICOM series to write; raise InputError if the folder contains another one."""
    from lib.dicom.write.files import refuse_foreign_files
    from lib.synthesis.dicom_out import plan_pet_series

    planned = plan_pet_series(synthesizer, series)
    refuse_foreign_files(out, planned.uid)
    return replace(planned, warning=warning)


def _check_familiarity(
    synthesizer: Synthesizer | Ensemble, volume: Volume, series: Series | None, name: str, *, allow_unlike: bool
) -> Familiarity:
    """Return whether the CT resembles the training CTs, and warn if not; raise InputError if it is unlike them."""
    from lib.synthesis.familiarity import UNKNOWN_FACTS, check_familiarity, read_header_facts, refuse_unlike

    facts = UNKNOWN_FACTS if series is None else read_header_facts(series)
    familiarity = check_familiarity(synthesizer, volume, facts)
    if not allow_unlike:
        refuse_unlike(familiarity, name)
    if familiarity.warning:
        print_line(f"warning: {familiarity.warning}", stderr)
    return familiarity


@dataclass(frozen=True)
class _Request:
    """What to synthesise; `uncertainty` is the file for the expected error, and `compression` zlib's level."""

    synthesizer: Synthesizer | Ensemble
    ct: Volume
    slices: slice | None
    progress: Progress
    uncertainty: Path | None
    compression: int


@dataclass
class _Result:
    """Numbers of a synthetic PET, collected slab by slab."""

    shape: tuple[int, int, int] = (0, 0, 0)
    suv_max: float = float("-inf")
    suv_mean: float = 0.0
    series_uid: str | None = None

    def add(self, slab: Volume) -> None:
        """Include a slab."""
        slices, rows, columns = slab.geometry.shape
        self.suv_max = max(self.suv_max, float(slab.array.max()))
        share = slices / (self.shape[0] + slices)
        self.suv_mean += share * (float(slab.array.mean(dtype="float64")) - self.suv_mean)
        self.shape = (self.shape[0] + slices, rows, columns)


def _write_file(request: _Request, out: Path) -> _Result:
    """Write the synthetic PET to a volume file."""
    from lib.imaging.files.volume_file import write_volume_file

    pet = _predict(request)
    write_volume_file(pet, out, compression=request.compression)
    result = _Result()
    result.add(pet)
    return result


def _write_dicom(request: _Request, planning: Future[PlannedSeries], out: Path) -> _Result:
    """Write the synthetic PET to a folder, each slab while the next is synthesised.

    The headers of the CT are read for `planning` while the first slab is synthesised.
    """
    from lib.dicom.write.files import write_series
    from lib.dicom.write.streamed_series import StreamedSeries
    from lib.imaging.geometry import resolve_slab
    from lib.parallel import ahead
    from lib.synthesis.slabs import synthesize_slabs

    result = _Result()
    start, stop = resolve_slab(request.slices or slice(None), request.ct.geometry.shape[0])
    if request.uncertainty is None:
        slabs = synthesize_slabs(request.synthesizer, request.ct, request.slices, progress=request.progress)
    else:
        planning.result()  # an error comes before the work
        slabs = iter([_predict(request)])
    with closing(ahead(slabs)) as arriving:

        def counted(first: Volume) -> Iterator[Volume]:
            """Yield the slabs, included in the result."""
            for slab in chain([first], arriving):
                result.add(slab)
                yield slab

        first = next(arriving)
        planned = planning.result()
        result.series_uid = planned.uid
        write_series(StreamedSeries(planned, counted(first), stop - start), out)
    return result


def _predict(request: _Request) -> Volume:
    """Return the synthetic PET; write its expected error to the file `uncertainty`."""
    from lib.imaging.files.volume_file import write_volume_file
    from lib.synthesis.uncertainty import apply_with_uncertainty

    synthesizer, ct, slices, progress = request.synthesizer, request.ct, request.slices, request.progress
    if request.uncertainty is None:
        return synthesizer.apply(ct, slices, progress=progress)
    pet, error = apply_with_uncertainty(synthesizer, ct, slices, progress=progress)
    write_volume_file(error, request.uncertainty, compression=request.compression)
    return pet
