"""Three real patients to arrays: what pydicom, Pillow and scipy compute from the same files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from lib.dicom.rtstruct import find_contours
from lib.dicom.scan.scan import scan_folder
from lib.learning.recipe import load_recipe
from lib.pairing.pairs import PairedSeries, pair_series
from lib.pairing.prepare import PreparationReport, prepare_pairs
from lib.pairing.prepared import PreparedPair, PreparedSet

QUANTITATIVE = load_recipe("quantitative", settings=["pixel_mm=2"]).preparation
PAPER = load_recipe("paper").preparation
REAL = ("STS_019", "STS_031", "STS_041")


@pytest.fixture(scope="module")
def real_pairs(sts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PairedSeries, ...]:
    root = tmp_path_factory.mktemp("sts")
    for patient in REAL:  # copied: scanning does not follow links
        shutil.copytree(sts_folder / patient, root / patient)
    return pair_series(scan_folder(root)).pairs


@pytest.fixture(scope="module")
def quantitative(real_pairs: tuple[PairedSeries, ...], tmp_path_factory: pytest.TempPathFactory) -> PreparationReport:
    return prepare_pairs(real_pairs, tmp_path_factory.mktemp("quantitative"), preparation=QUANTITATIVE)


@pytest.fixture(scope="module")
def paper(real_pairs: tuple[PairedSeries, ...], tmp_path_factory: pytest.TempPathFactory) -> PreparationReport:
    return prepare_pairs(real_pairs, tmp_path_factory.mktemp("paper"), preparation=PAPER)


def of_patient(prepared: PreparedSet, patient_id: str) -> PreparedPair:
    (pair,) = (pair for pair in prepared.pairs if pair.patient_id == patient_id)
    return pair


class Stack:
    """A series as pydicom and numpy alone have it: rescaled, slices from the feet up, axes of the scanner."""

    def __init__(self, folder: Path) -> None:
        slices = sorted(
            (pydicom.dcmread(path) for path in folder.iterdir()), key=lambda one: float(one.ImagePositionPatient[2])
        )
        self.array = np.stack(
            [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices]
        ).astype(np.float32)
        self.z = np.array([float(one.ImagePositionPatient[2]) for one in slices])
        self.x0, self.y0 = (float(value) for value in slices[0].ImagePositionPatient[:2])
        self.dy, self.dx = (float(value) for value in slices[0].PixelSpacing)

    def centres_mm(self, rows: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return y and x of pixel centres that divide this stack's field of view again."""
        _, r, c = self.array.shape
        y = self.y0 - self.dy / 2 + (np.arange(rows) + 0.5) * r * self.dy / rows
        x = self.x0 - self.dx / 2 + (np.arange(columns) + 0.5) * c * self.dx / columns
        return y, x

    def resized(self, rows: int, columns: int) -> NDArray[np.float32]:
        images = [Image.fromarray(one).resize((columns, rows), Image.Resampling.BILINEAR) for one in self.array]
        return np.stack([np.asarray(image) for image in images])

    def at(
        self, z: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return linearly interpolated values on a grid, and where that grid lies within the outer voxels' edges."""
        axes = [
            np.interp(z, self.z, np.arange(len(self.z)), left=-9, right=1e9),
            (y - self.y0) / self.dy,
            (x - self.x0) / self.dx,
        ]
        # np.interp knows no extrapolation: half a slice beyond the ends belongs to the end slices
        step = self.z[1] - self.z[0]
        axes[0] = np.where(axes[0] == -9, (z - self.z[0]) / step, axes[0])
        axes[0] = np.where(axes[0] == 1e9, len(self.z) - 1 + (z - self.z[-1]) / step, axes[0])
        inside = np.ones((len(z), len(y), len(x)), np.bool_)
        for number, (axis, length) in enumerate(zip(axes, self.array.shape, strict=True)):
            shape = [1, 1, 1]
            shape[number] = -1
            inside &= ((axis >= -0.5) & (axis <= length - 0.5)).reshape(shape)
        grid = np.meshgrid(*axes, indexing="ij")
        return map_coordinates(self.array, grid, order=1, mode="nearest"), inside


def test_recipe_quantitative_takes_every_slice_of_every_patient(quantitative: PreparationReport) -> None:
    assert not quantitative.failed and quantitative.reused == 0
    shapes = {pair.patient_id: pair.shape[0] for pair in quantitative.prepared.pairs}
    assert shapes == {"STS_019": 47, "STS_031": 67, "STS_041": 53}
    offsets = {pair.patient_id: pair.largest_offset_mm for pair in quantitative.prepared.pairs}
    assert offsets["STS_031"] == pytest.approx(1.59, abs=0.001)


@pytest.mark.parametrize("patient_id", ["STS_031", "STS_041"])
def test_arrays_agree_with_an_independent_program(
    quantitative: PreparationReport, sts_folder: Path, patient_id: str
) -> None:
    pair = of_patient(quantitative.prepared, patient_id)
    arrays = quantitative.prepared.arrays(pair)
    ct, pet = (Stack(sts_folder / patient_id / modality / "image") for modality in ("CT", "PET"))
    _, rows, columns = pair.shape
    assert (rows, columns) == (round(ct.array.shape[1] * ct.dy / 2), round(ct.array.shape[2] * ct.dx / 2))
    expected_hu = np.clip(ct.resized(rows, columns), -1000, 1000)
    np.testing.assert_allclose(arrays.ct_hu(), expected_hu, atol=0.6)  # 16-bit floats: half of 1/1024 of 1000 HU
    y, x = ct.centres_mm(rows, columns)
    expected_suv, inside = pet.at(ct.z, y, x)
    measured = arrays.measured()
    assert (measured != inside).mean() < 0.001  # but for rounding at the very edge
    both = measured & inside
    np.testing.assert_allclose(arrays.suv_bw()[both], expected_suv[both], rtol=0.002, atol=0.001)


def test_a_prepared_geometry_is_where_the_ct_is(quantitative: PreparationReport, sts_folder: Path) -> None:
    pair, ct = of_patient(quantitative.prepared, "STS_041"), Stack(sts_folder / "STS_041" / "CT" / "image")
    y, x = ct.centres_mm(*pair.shape[1:])
    first, last = pair.geometry().to_world(np.array([[0.0, 0, 0], [pair.shape[2] - 1, pair.shape[1] - 1, 52]]))
    np.testing.assert_allclose(first, (x[0], y[0], ct.z[0]), atol=1e-3)
    np.testing.assert_allclose(last, (x[-1], y[-1], ct.z[-1]), atol=1e-3)


def test_recipe_paper_uses_matching_slices_and_gives_the_reason_without_any(paper: PreparationReport) -> None:
    assert {pair.patient_id: pair.shape for pair in paper.prepared.pairs} == {
        "STS_019": (45, 256, 256),
        "STS_041": (52, 256, 256),
    }
    (failed,) = paper.failed
    assert failed.patient_id == "STS_031"
    assert failed.reason == (
        "no PET slice is within 0.2 mm of a CT slice (largest offset 1.59 mm); use a recipe with "
        "grid.slices = resample for this pair"
    )


def test_recipe_paper_stores_8_bit_images_of_each_pet_slice_as_it_is(
    paper: PreparationReport, sts_folder: Path
) -> None:
    pair = of_patient(paper.prepared, "STS_041")
    arrays = paper.prepared.arrays(pair)
    assert (arrays.ct.dtype, arrays.pet.dtype) == (np.uint8, np.uint8)
    ct, pet = (Stack(sts_folder / "STS_041" / modality / "image") for modality in ("CT", "PET"))
    levels = np.clip((ct.resized(256, 256)[list(pair.ct_slices)] + 1000) / 2000, 0, 1) * 255
    assert np.abs(arrays.ct - levels).max() <= 0.51
    y, x = ct.centres_mm(256, 256)
    nearest = [int(np.abs(pet.z - ct.z[k]).argmin()) for k in pair.ct_slices]
    assert np.abs(pet.z[nearest] - ct.z[list(pair.ct_slices)]).max() < 0.2
    suv, inside = pet.at(pet.z[nearest], y, x)  # exactly on PET slices: nothing between slices
    both = inside & arrays.measured()
    assert both.mean() > 0.9
    assert np.abs(arrays.pet - np.clip(suv / 10, 0, 1) * 255)[both].max() <= 0.51


def test_slices_outside_the_pet_are_not_measured(quantitative: PreparationReport, sts_folder: Path) -> None:
    pair = of_patient(quantitative.prepared, "STS_019")  # its PET covers 92 % of the CT's box
    arrays = quantitative.prepared.arrays(pair)
    ct, pet = (Stack(sts_folder / "STS_019" / modality / "image") for modality in ("CT", "PET"))
    _, inside = pet.at(ct.z, *ct.centres_mm(*pair.shape[1:]))
    assert 0.5 < inside.mean() < 0.99
    assert (arrays.measured() != inside).mean() < 0.001
    assert not arrays.suv_bw()[~arrays.measured()].any() and not arrays.body()[~arrays.measured()].any()


def test_the_body_is_the_patient(quantitative: PreparationReport) -> None:
    arrays = quantitative.prepared.arrays(of_patient(quantitative.prepared, "STS_041"))
    body, hu = arrays.body(), arrays.ct_hu()
    assert 0.2 < body.mean() < 0.8
    assert (hu[body] > -500).mean() > 0.97
    assert (hu[arrays.measured() & ~body] > -300).mean() < 0.05


def test_a_second_run_opens_no_dicom_file(
    quantitative: PreparationReport, real_pairs: tuple[PairedSeries, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a DICOM file was opened")

    monkeypatch.setattr(pydicom, "dcmread", refuse)
    monkeypatch.setattr("lib.dicom.read.volume.read_slice", refuse)
    again = prepare_pairs(real_pairs, quantitative.prepared.root, preparation=QUANTITATIVE)
    assert again.reused == 3 and again.prepared == quantitative.prepared


def test_a_contoured_tumour_is_stored_with_the_body_mask(
    real_pairs: tuple[PairedSeries, ...], quantitative: PreparationReport, tmp_path: Path
) -> None:
    scan = scan_folder(real_pairs[0].pair.ct.files[0].parents[2])
    pairs = pair_series(scan).pairs
    prepared = prepare_pairs(pairs, tmp_path, preparation=QUANTITATIVE, scan=scan).prepared
    for pair in prepared.pairs:
        arrays = prepared.arrays(pair)
        contours = find_contours(scan, next(p.pair.ct for p in pairs if p.pair.ct.uid == pair.ct_series_instance_uid))
        area_mm2 = {
            round(polygon[0, 2], 1): shoelace_mm2(polygon[:, :2]) for one in contours for polygon in one.polygons_mm
        }
        expected_ml = sum(area_mm2.values()) * pair.spacing_mm[0] / 1000
        tumour_ml = arrays.tumour().sum() * np.prod(pair.spacing_mm) / 1000
        assert tumour_ml == pytest.approx(expected_ml, rel=0.1)
        assert arrays.suv_bw()[arrays.tumour()].mean() > arrays.suv_bw()[arrays.body()].mean()
        without = quantitative.prepared.arrays(of_patient(quantitative.prepared, pair.patient_id))
        np.testing.assert_array_equal(arrays.body(), without.body())
        assert not without.tumour().any()


def shoelace_mm2(points: NDArray[np.float64]) -> float:
    """Return the area of a polygon, (N, 2)."""
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
