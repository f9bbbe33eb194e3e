"""Synthetic PETs of other programs or other models from the same CTs, on the grid of the evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.errors import ImageFileError, InputError, PairingError
from lib.imaging.files.volume_file import SUFFIXES, read_volume_file, voxels_are_float
from lib.imaging.geometry import Geometry
from lib.imaging.orientation import to_canonical
from lib.imaging.resample import resample_to
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Unit, Volume
from lib.metrics.baselines import ORGAN_MEDIAN
from lib.metrics.criteria import METHODS
from lib.synthesis.synthesizer import Synthesizer
from lib.types import BoolArray, FloatArray

RESERVED_NAMES = (*METHODS, ORGAN_MEDIAN, "real")
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,23}")  # fits a table's column
MIN_SUV, MAX_SUV = -5.0, 500.0  # networks undershoot a little; the hottest bladder is about 200; air in a CT is -1000
MIN_COVERED = 0.95  # of the body; voxels that are not covered count as 0


@dataclass(frozen=True)
class ExternalPredictions:
    """The predictions of another program: its name in the report, and its folder of `<CT SeriesInstanceUID>.nrrd`."""

    name: str
    folder: Path

    def file_of(self, ct_series_instance_uid: str) -> Path:
        """Return the file of a CT's synthetic PET.

        Raises:
            ImageFileError: There is no such file, or there are several.
        """
        names = [f"{ct_series_instance_uid}{suffix}" for suffix in SUFFIXES]
        found = [path for name in names if (path := self.folder / name).is_file()]
        if len(found) != 1:
            count = f"{len(found)} volumes ({', '.join(path.name for path in found)})" if found else "no volume"
            raise ImageFileError(
                f"{self.name} has {count} of CT {ct_series_instance_uid}; expected one file, named by the CT's "
                f"SeriesInstanceUID with one of the suffixes {', '.join(SUFFIXES)}"
            )
        return found[0]


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """Another model, trained here or imported: its name in the report, and the model."""

    name: str
    synthesizer: Synthesizer


Competitor = ExternalPredictions | ModelPredictions


def parse_external_predictions(texts: Iterable[str], *, device: str = "auto") -> tuple[Competitor, ...]:
    """Parse texts of the form NAME=FOLDER or NAME=MODEL; a model is loaded.

    Raises:
        InputError: Not of that form, a reserved, duplicate or invalid name, or a missing folder.
        CheckpointError: A file that is not a model.
    """
    parsed: list[Competitor] = []
    for text in texts:
        name, separator, folder = text.partition("=")
        if not separator or not NAME.fullmatch(name):
            raise InputError(
                f"{text!r}: expected NAME=FOLDER or NAME=MODEL, with a name of at most 24 letters, digits and . _ + -"
            )
        if name in RESERVED_NAMES or name in {program.name for program in parsed}:
            raise InputError(f"the name {name!r} is reserved or already used; choose another name for {folder}")
        if Path(folder).is_file():
            parsed.append(ModelPredictions(name, Synthesizer.load(Path(folder), device=device)))
            continue
        if not Path(folder).is_dir():
            raise InputError(f"{name}: {folder} is not a folder; expected the folder of its volumes")
        parsed.append(ExternalPredictions(name, Path(folder)))
    return tuple(parsed)


def predict_with_model(program: ModelPredictions, ct: Volume, patient_id: str, *, geometry: Geometry) -> FloatArray:
    """Return another model's synthetic PET of a CT on the grid of the evaluation, SUVbw (K, R, C).

    Raises:
        PairingError: The model was trained or validated on the patient, so the comparison would favour it.
    """
    if program.synthesizer.card.side_of(patient_id).shaped_weights:
        raise PairingError(f"{program.name} was trained or validated on this patient")
    return resample_in_plane(to_canonical(program.synthesizer.apply(ct)).array, *geometry.shape[1:])


def read_external_prediction(
    program: ExternalPredictions, ct_series_instance_uid: str, *, geometry: Geometry, body: BoolArray
) -> FloatArray:
    """Return a program's synthetic PET on the grid of the evaluation, SUVbw (K, R, C), 0 where it has no value.

    A volume with the CT's slices and outer edges is resampled in plane, as the model's own PET is; any other is
    interpolated linearly.

    Raises:
        ImageFileError: There is no file of this CT or several, or it is damaged, has integer voxels, or no SUVs.
        PairingError: It is elsewhere, or covers too little of the body.
    """
    path = program.file_of(ct_series_instance_uid)
    volume = read_volume_file(path, unit=Unit.SUV_BW)
    where = f"{program.name}, {path.name}"
    if not voxels_are_float(path):
        raise ImageFileError(f"{where}: voxels are integers, expected SUVbw as float; export it without rounding")
    low, high = float(volume.array.min()), float(volume.array.max())
    if low < MIN_SUV or high > MAX_SUV:
        raise ImageFileError(
            f"{where}: values from {low:g} to {high:g}, expected SUVbw between {MIN_SUV:g} and {MAX_SUV:g}; "
            f"{'is it a CT, or normalised?' if low < MIN_SUV else 'is it in Bq/mL, or scaled?'}"
        )
    suv_bw = _resample(volume, geometry)
    defined = np.isfinite(suv_bw)
    covered = float(defined[body].mean()) if body.any() else 1.0
    if covered < MIN_COVERED:
        raise PairingError(
            f"{where}: covers {covered:.0%} of the evaluated body, expected at least {MIN_COVERED:.0%}; write the full "
            "volume, with the CT's origin, spacing and directions"
        )
    return np.where(defined, suv_bw, np.float32(0))


def _resample(volume: Volume, geometry: Geometry) -> FloatArray:
    volume = to_canonical(volume)  # so that another voxel order alone causes no interpolation
    rows, columns = geometry.shape[1:]
    if volume.geometry.with_pixels(rows, columns).same_grid_as(geometry):
        return resample_in_plane(volume.array, rows, columns)
    return resample_to(volume, geometry).array
