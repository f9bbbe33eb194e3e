"""Export prepared pairs as MetaImage files for KonfAI, and import its predictions.

::

    OUT/learn/<case>/{CT,PET,MASK}.mha   training and validation patients: HU, sqrt(SUVbw / 20), where the loss counts
    OUT/test/<case>/{CT,BODY}.mha        test patients, without PET
    OUT/validation.txt                   cases of `learn` that select the checkpoint
    OUT/cases.json                       index of the cases; written last, so it marks a complete export
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lib.dicom.read.volume import read_ct
from lib.errors import PairingError, PreparedDataError
from lib.files import write_text
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.normalize import Windows, denormalize_pet
from lib.imaging.orientation import canonical_geometry, to_canonical
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Unit, Volume
from lib.pairing.prepared import BODY, PairArrays, PreparedSet
from lib.pairing.split import SPLIT_SIDES, Side, Split
from lib.types import BoolArray, FloatArray, Progress, Series, no_progress


@dataclass(frozen=True)
class Case:
    """A pair in KonfAI's dataset.

    Attributes:
        name: Name of its folder, a hash, so that KonfAI's files contain no patient ID.
        side: Side of the split by patient.
        ct_series_instance_uid: Of the CT; also names the synthetic PET.
        slices: Number of slices.
    """

    name: str
    side: Side
    ct_series_instance_uid: str
    slices: int


def export_cases(
    prepared: PreparedSet, split: Split, out: Path, *, progress: Progress = no_progress
) -> tuple[Case, ...]:
    """Write every pair as a case and return the cases, in the order of the index.

    A complete export of the same pairs and split is reused.

    Raises:
        PairingError: A side of the split has no patients, or the split is by slice.
        PreparedDataError: The arrays skip slices, or are damaged.
    """
    cases = tuple(
        Case(pair.id, split.side_of_patient(pair.patient_id), pair.ct_series_instance_uid, pair.shape[0])
        for pair in prepared.pairs
    )
    _check_split(prepared, split, cases)
    if _read_index(out) == (cases, prepared.preparation.digest()):
        return cases
    (out / "cases.json").unlink(missing_ok=True)
    for side in ("learn", "test"):  # so that no PET remains of a case that moves to the test side
        shutil.rmtree(out / side, ignore_errors=True)
    for number, (case, pair) in enumerate(zip(cases, prepared.pairs, strict=True)):
        progress(number, len(cases), "exporting cases")
        arrays = prepared.arrays(pair)
        folder = out / ("test" if case.side == Side.TEST else "learn") / case.name
        images = images_without_pet(arrays) if case.side == Side.TEST else images_with_pet(arrays)
        for name, volume in images.items():
            write_volume_file(volume, folder / f"{name}.mha")
    write_text(out / "validation.txt", "".join(f"{case.name}\n" for case in cases if case.side == Side.VALIDATION))
    index = {"preparation": prepared.preparation.digest(), "cases": [asdict(case) for case in cases]}
    write_text(out / "cases.json", json.dumps(index, indent=1))
    progress(len(cases), len(cases), "exported")
    return cases


def import_prediction(predicted: Path, ct: Series, out: Path, *, windows: Windows) -> Path:
    """Write KonfAI's prediction for a CT as SUVbw on the CT's grid, named after its series; return the file.

    The voxel order is canonical, as in prepared arrays. Pixels are resampled as in `Synthesizer.apply`.

    Raises:
        ImageFileError: Not a volume, or damaged.
        PairingError: The prediction is not on the CT's slices.
    """
    prediction = to_canonical(read_volume_file(predicted, unit=Unit.UNIT_RANGE))
    geometry = canonical_geometry(read_ct(ct).geometry)  # the voxel order of prepared arrays
    if not prediction.geometry.same_grid_as(geometry.with_pixels(*prediction.geometry.shape[1:])):
        raise PairingError(f"{predicted}: not on the slices of CT {ct.uid}; delete it and predict again")
    suv_bw = resample_in_plane(denormalize_pet(prediction.array, windows), *geometry.shape[1:])
    return write_volume_file(Volume(suv_bw, geometry, Unit.SUV_BW), out / f"{ct.uid}.mha")


def images_with_pet(arrays: PairArrays) -> dict[str, Volume]:
    """Return what KonfAI learns from: CT in HU, PET in the recipe's unit range, and where the loss counts."""
    return {
        "CT": _volume(arrays, arrays.ct_hu(), Unit.HU),
        "PET": _volume(arrays, arrays.pet_unit(), Unit.UNIT_RANGE),
        "MASK": _volume(arrays, arrays.body(), Unit.UNIT_RANGE),
    }


def images_without_pet(arrays: PairArrays) -> dict[str, Volume]:
    """Return what KonfAI synthesises from: the CT in HU, and the body."""
    return {
        "CT": _volume(arrays, arrays.ct_hu(), Unit.HU),
        "BODY": _volume(arrays, (arrays.regions[:] & BODY) > 0, Unit.UNIT_RANGE),
    }


def _volume(arrays: PairArrays, array: FloatArray | BoolArray, unit: Unit) -> Volume:
    return Volume(np.asarray(array, dtype=np.float32), arrays.pair.geometry(), unit)


def _check_split(prepared: PreparedSet, split: Split, cases: Iterable[Case]) -> None:
    if split.unit != "patient":
        raise PairingError(f"the recipe splits by {split.unit}; set split.unit = patient")
    if prepared.preparation.grid.slices != "resample":
        raise PreparedDataError("these arrays skip slices of the CT; prepare with a recipe of grid.slices = resample")
    sides = [case.side for case in cases]
    counts = {side.value: sides.count(side) for side in SPLIT_SIDES}
    if not all(counts.values()):
        raise PairingError(f"a side of the split has no patients ({counts}); give about ten or more patients")


def _read_index(out: Path) -> tuple[tuple[Case, ...], str] | None:
    try:
        index = json.loads((out / "cases.json").read_text())
        return tuple(Case(**case) for case in index["cases"]), index["preparation"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
