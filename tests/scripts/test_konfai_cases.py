"""KonfAI's cases: the training data of our recipe without the test patients' PETs, and the import as SUV."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.errors import PairingError, PreparedDataError
from lib.evaluation.slice_metrics import align
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.imaging.volume import Unit, Volume
from lib.pairing.pairs import PairedSeries, pair_series
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import Preparation, PreparedPair, PreparedSet
from lib.pairing.split import Split
from lib.phantom.generate import write_phantoms
from lib.phantom.patient import PhantomSettings
from scripts.konfai.cases import export_cases, import_prediction

# tests/pairing/test_split.py: PHANTOM_0001 lies at 0.389, PHANTOM_0002 at 0.138, PHANTOM_0003 at 0.401
SPLIT = Split(test=0.15, validation=0.24)
SIDES = {"PHANTOM_0001": "validation", "PHANTOM_0002": "test", "PHANTOM_0003": "train"}
PREPARATION = Preparation(Grid(pixel_mm=8.0), Windows())
SMALL = PhantomSettings(slices=12, ct_matrix=80, ct_pixel_mm=5.12, pet_matrix=64, pet_pixel_mm=6.4)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairedSeries, ...]:
    studies = tmp_path_factory.mktemp("studies")
    write_phantoms(studies, patients=3, settings=SMALL)
    return pair_series(scan_folder(studies)).pairs


@pytest.fixture(scope="module")
def prepared(pairs: tuple[PairedSeries, ...], tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return prepare_pairs(pairs, tmp_path_factory.mktemp("prepared"), preparation=PREPARATION).prepared


def voxels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def of_patient(prepared: PreparedSet, patient_id: str) -> PreparedPair:
    return next(pair for pair in prepared.pairs if pair.patient_id == patient_id)


def test_each_patient_is_on_the_side_of_our_split(prepared: PreparedSet, tmp_path: Path) -> None:
    cases = export_cases(prepared, SPLIT, tmp_path)
    sides = {of.patient_id: case.side for of, case in zip(prepared.pairs, cases, strict=True)}
    assert sides == SIDES
    assert (tmp_path / "validation.txt").read_text() == of_patient(prepared, "PHANTOM_0001").id + "\n"


def test_no_pet_of_a_test_patient_and_no_patient_id_is_written(prepared: PreparedSet, tmp_path: Path) -> None:
    export_cases(prepared, SPLIT, tmp_path)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mha"))
    learn = [of_patient(prepared, patient).id for patient in ("PHANTOM_0001", "PHANTOM_0003")]
    test = of_patient(prepared, "PHANTOM_0002").id
    wanted = [f"learn/{case}/{name}.mha" for case in learn for name in ("CT", "MASK", "PET")]
    assert files == sorted([*wanted, f"test/{test}/BODY.mha", f"test/{test}/CT.mha"])
    assert "PHANTOM" not in (tmp_path / "cases.json").read_text()


def test_a_case_holds_hu_the_root_of_suv_and_the_mask_of_the_loss(prepared: PreparedSet, tmp_path: Path) -> None:
    export_cases(prepared, SPLIT, tmp_path)
    pair = of_patient(prepared, "PHANTOM_0003")
    folder, arrays = tmp_path / "learn" / pair.id, prepared.arrays(pair)
    np.testing.assert_array_equal(voxels(folder / "CT.mha"), arrays.ct_hu())
    np.testing.assert_allclose(voxels(folder / "PET.mha") ** 2 * 20, arrays.suv_bw(), rtol=1e-5)
    np.testing.assert_array_equal(voxels(folder / "MASK.mha") > 0, arrays.body())


def test_every_image_of_a_case_has_the_geometry_of_the_arrays(prepared: PreparedSet, tmp_path: Path) -> None:
    export_cases(prepared, SPLIT, tmp_path)
    pair = of_patient(prepared, "PHANTOM_0003")
    for name in ("CT", "PET", "MASK"):
        image = sitk.ReadImage(str(tmp_path / "learn" / pair.id / f"{name}.mha"))
        assert image.GetSize() == pair.shape[::-1]
        np.testing.assert_allclose(image.GetSpacing(), pair.spacing_mm[::-1])
        np.testing.assert_allclose(image.GetOrigin(), np.asarray(pair.affine)[:3, 3])


def test_a_complete_export_is_reused(prepared: PreparedSet, tmp_path: Path) -> None:
    first = export_cases(prepared, SPLIT, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mha")}
    assert export_cases(prepared, SPLIT, tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mha")} == times


def test_no_pet_remains_of_a_case_that_changes_side(prepared: PreparedSet, tmp_path: Path) -> None:
    export_cases(prepared, SPLIT, tmp_path)
    # from 0.3 on, 0001 lies at 0.089, 0003 at 0.101 and 0002 at 0.838
    export_cases(prepared, Split(offset=0.3, test=0.095, validation=0.01), tmp_path)
    assert not (tmp_path / "learn" / of_patient(prepared, "PHANTOM_0001").id).exists()


def test_a_prediction_is_imported_on_the_cts_grid_as_suv(
    prepared: PreparedSet, pairs: tuple[PairedSeries, ...], tmp_path: Path
) -> None:
    pair = of_patient(prepared, "PHANTOM_0002")
    ct = next(paired.pair.ct for paired in pairs if paired.pair.ct.patient_id == "PHANTOM_0002")
    half = Volume(np.full(pair.shape, 0.5, np.float32), pair.geometry(), Unit.UNIT_RANGE)
    predicted = write_volume_file(half, tmp_path / "PET.mha")
    written = import_prediction(predicted, ct, tmp_path / "konfai", windows=PREPARATION.windows)
    assert written == tmp_path / "konfai" / f"{ct.uid}.mha"
    volume = read_volume_file(written, unit=Unit.SUV_BW)
    assert volume.geometry.same_grid_as(read_ct(ct).geometry)
    np.testing.assert_allclose(volume.array, 5.0, rtol=1e-5)  # 0.5 squared, times 20
    assert sitk.ReadImage(str(written)).GetPixelID() == sitk.sitkFloat32


def test_an_exported_and_imported_pet_is_unchanged(
    prepared: PreparedSet, pairs: tuple[PairedSeries, ...], tmp_path: Path
) -> None:
    pair = of_patient(prepared, "PHANTOM_0003")
    paired = next(paired.pair for paired in pairs if paired.pair.ct.patient_id == "PHANTOM_0003")
    export_cases(prepared, SPLIT, tmp_path)
    sent = tmp_path / "learn" / pair.id / "PET.mha"
    back = read_volume_file(import_prediction(sent, paired.ct, tmp_path, windows=Windows()), unit=Unit.SUV_BW)
    volumes = align(back, ct=read_ct(paired.ct), pet=read_pet(paired.pet), grid=PREPARATION.grid)
    body = volumes.body
    assert np.corrcoef(volumes.synthetic_suv[body], volumes.real_suv[body])[0, 1] > 0.97  # smoothed by two resamplings
    assert np.corrcoef(volumes.synthetic_suv[:, :, ::-1][body], volumes.real_suv[body])[0, 1] < 0.9  # not mirrored


def test_a_prediction_of_another_patient_is_rejected(
    prepared: PreparedSet, pairs: tuple[PairedSeries, ...], tmp_path: Path
) -> None:
    pair = of_patient(prepared, "PHANTOM_0002")
    affine = pair.geometry().affine.copy()
    affine[2, 3] += 30.0
    moved = Volume(np.zeros(pair.shape, np.float32), replace(pair.geometry(), affine=affine), Unit.UNIT_RANGE)
    predicted = write_volume_file(moved, tmp_path / "PET.mha")
    ct = next(paired.pair.ct for paired in pairs if paired.pair.ct.patient_id == "PHANTOM_0002")
    with pytest.raises(PairingError, match=r"not on the slices of CT .*; delete it and predict again"):
        import_prediction(predicted, ct, tmp_path, windows=Windows())


def test_a_split_by_slice_is_rejected(prepared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(PairingError, match=r"the recipe splits by slice; set split\.unit = patient"):
        export_cases(prepared, Split(unit="slice"), tmp_path)


def test_a_side_without_patients_is_rejected(prepared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(PairingError, match=r"'test': 0}.*; give about ten or more patients"):
        export_cases(prepared, Split(test=0.0, validation=0.39), tmp_path)


def test_arrays_that_skip_slices_are_rejected(prepared: PreparedSet, tmp_path: Path) -> None:
    skipping = replace(prepared, preparation=Preparation(Grid(pixel_mm=8.0, slices="match"), Windows()))
    with pytest.raises(PreparedDataError, match=r"skip slices of the CT; prepare with .* grid.slices = resample"):
        export_cases(skipping, SPLIT, tmp_path)
