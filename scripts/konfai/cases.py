"""Between prepared pairs and the folder of cases KonfAI reads: MetaImage files out, its predictions back in.

::

    OUT/learn/<case>/{CT,PET,MASK}.mha   training and validation patients: HU, sqrt(SUVbw / 20), where the loss counts
    OUT/test/<case>/{CT,BODY}.mha        test patients: no PET, so none can be learnt from
    OUT/validation.txt                   which cases of `learn` choose the checkpoint
    OUT/cases.json                       what each case is; written last, so where it lies everything lies
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
    """One pair as KonfAI knows it.

    Attributes:
        name: Its folder: a hash, so that no patient ID leaves for files of another program.
        side: Of the split by patient.
        ct_series_instance_uid: The CT; names the synthetic PET.
        slices: How many it has.
    """

    name: str
    side: Side
    ct_series_instance_uid: str
    slices: int


def export_cases(
    prepared: PreparedSet, split: Split, out: Path, *, progress: Progress = no_progress
) -> tuple[Case, ...]:
    """Write every pair as a case of KonfAI's and return the cases, in the index's order.

    Cases that lie there already, of the same pairs and split, are taken as they are.

    Raises:
        PairingError: The split leaves a side without patients, or does not keep patients whole.
        PreparedDataError: The arrays skip slices, or are damaged.
    """
    cases = tuple(
        Case(pair.id, split.side_of_patient(pair.patient_id), pair.ct_series_instance_uid, pair.shape[0])
        for pair in prepared.pairs
    )
    _refuse_unfit(prepared, split, cases)
    if _exported(out) == (cases, prepared.preparation.digest()):
        return cases
    (out / "cases.json").unlink(missing_ok=True)
    for side in ("learn", "test"):  # a case that changes side leaves no PET behind
        shutil.rmtree(out / side, ignore_errors=True)
    for number, (case, pair) in enumerate(zip(cases, prepared.pairs, strict=True)):
        progress(number, len(cases), "exporting cases")
        arrays = prepared.arrays(pair)
        folder = out / ("test" if case.side == Side.TEST else "learn") / case.name
        for name, volume in _images(arrays, case.side).items():
            write_volume_file(volume, folder / f"{name}.mha")
    write_text(out / "validation.txt", "".join(f"{case.name}\n" for case in cases if case.side == Side.VALIDATION))
    index = {"preparation": prepared.preparation.digest(), "cases": [asdict(case) for case in cases]}
    write_text(out / "cases.json", json.dumps(index, indent=1))
    progress(len(cases), len(cases), "exported")
    return cases


def import_prediction(predicted: Path, ct: Series, out: Path, *, windows: Windows) -> Path:
    """Write what KonfAI drew of a CT as SUVbw on that CT's voxels, named after its series; return the file.

    Its voxel order is the canonical one, as that of prepared arrays. The way from the network's pixels to the CT's is
    the one of `Synthesizer.apply`.

    Raises:
        ImageFileError: Not a volume, or damaged.
        PairingError: It does not lie on the CT's slices.
    """
    drawn = to_canonical(read_volume_file(predicted, unit=Unit.UNIT_RANGE))
    geometry = canonical_geometry(read_ct(ct).geometry)  # the order of prepared arrays, which were exported
    if not drawn.geometry.same_grid_as(geometry.with_pixels(*drawn.geometry.shape[1:])):
        raise PairingError(f"{predicted}: does not lie on the slices of CT {ct.uid}; delete it and predict again")
    suv_bw = resample_in_plane(denormalize_pet(drawn.array, windows), *geometry.shape[1:])
    return write_volume_file(Volume(suv_bw, geometry, Unit.SUV_BW), out / f"{ct.uid}.mha")


def _images(arrays: PairArrays, side: Side) -> dict[str, Volume]:
    geometry = arrays.pair.geometry()

    def volume(array: FloatArray | BoolArray, unit: Unit) -> Volume:
        return Volume(np.asarray(array, dtype=np.float32), geometry, unit)

    ct = volume(arrays.ct_hu(), Unit.HU)
    if side == Side.TEST:
        return {"CT": ct, "BODY": volume((arrays.regions[:] & BODY) > 0, Unit.UNIT_RANGE)}
    return {
        "CT": ct,
        "PET": volume(arrays.pet_unit(), Unit.UNIT_RANGE),
        "MASK": volume(arrays.body(), Unit.UNIT_RANGE),
    }


def _refuse_unfit(prepared: PreparedSet, split: Split, cases: Iterable[Case]) -> None:
    if split.unit != "patient":
        raise PairingError(f"the comparison keeps patients whole, but the recipe splits by {split.unit}")
    if prepared.preparation.grid.slices != "resample":
        raise PreparedDataError("these arrays skip slices of the CT; prepare with a recipe of grid.slices = resample")
    sides = [case.side for case in cases]
    counts = {side.value: sides.count(side) for side in SPLIT_SIDES}
    if not all(counts.values()):
        raise PairingError(f"a side of the split has no patients ({counts}); give about ten or more patients")


def _exported(out: Path) -> tuple[tuple[Case, ...], str] | None:
    try:
        index = json.loads((out / "cases.json").read_text())
        return tuple(Case(**case) for case in index["cases"]), index["preparation"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
