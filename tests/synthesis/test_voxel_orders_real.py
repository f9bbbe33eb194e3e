"""A real patient in every voxel order that files come in: one PET, on the input's own grid, and one prepared pair.

Phantoms are too symmetric to show it; a model that has learnt from real patients is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from lib.dicom.scan.open_ct import open_ct
from lib.dicom.scan.scan import scan_folder
from lib.imaging.files.volume_file import write_volume_file
from lib.imaging.volume import Volume
from lib.learning.checkpoint import save_checkpoint
from lib.learning.recipe import Recipe, load_recipe
from lib.networks.cascade import Cascade
from lib.pairing.pairs import pair_series
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import PairArrays, Preparation, PreparedSet
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card

pytestmark = pytest.mark.slow

LEARNT_FROM = "STS_041"
STEPS = 50
SHOWN = ("STS_019", "STS_037")  # a limb, and a chest wall with lung
SAME_SUV = 1e-3


@pytest.fixture(scope="module")
def studies(sts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sts")
    shutil.copytree(sts_folder / LEARNT_FROM, root / LEARNT_FROM)
    return root


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(
        "quantitative",
        settings=[
            "pixel_mm=6.0", "stages=1", "base_channels=4", "depth=2", "context_slices=3", "flips=false",
            "normalization=instance",
        ],
    )  # fmt: skip


@pytest.fixture(scope="module")
def synthesizer(studies: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    pairs = pair_series(scan_folder(studies)).pairs
    prepared = prepare_pairs(pairs, tmp_path_factory.mktemp("arrays"), preparation=recipe.preparation).prepared
    model = tmp_path_factory.mktemp("model") / "model.safetensors"
    card = make_card(recipe=recipe, network=recipe.network)
    return Synthesizer.load(save_checkpoint(model, learnt(prepared, recipe), card), device="cpu", precision="float32")


def learnt(prepared: PreparedSet, recipe: Recipe) -> Cascade:
    """Return a cascade trained for a second: enough to predict different uptake in bone, fat and muscle."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    cascade = Cascade(recipe.network)
    optimiser = torch.optim.Adam(cascade.parameters(), lr=0.004)
    arrays = [prepared.arrays(pair) for pair in prepared.pairs]
    for _ in range(STEPS):
        of = arrays[random.integers(len(arrays))]
        middle = random.integers(1, len(of.ct) - 1, 6)
        ct = torch.from_numpy(np.stack([of.ct_unit(slice(k - 1, k + 2)) for k in middle]))
        pet = torch.from_numpy(np.stack([of.pet_unit(slice(k, k + 1)) for k in middle]))
        loss = (cascade(ct)[-1] - pet).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return cascade.eval()


def reverse(folder: Path, *, rows: bool = False, columns: bool = False) -> None:
    """Store the same slices with rows or columns the other way round: another order, the same patient and place."""
    for path in sorted(folder.rglob("*.dcm")):
        slice_ = pydicom.dcmread(path)
        pixels = slice_.pixel_array
        place = np.array(slice_.ImagePositionPatient, float)
        along_row, along_column = np.array(slice_.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = (float(value) for value in slice_.PixelSpacing)
        if rows:
            pixels = pixels[::-1]
            place += along_column * between_rows * (pixels.shape[0] - 1)
            along_column = -along_column
        if columns:
            pixels = pixels[:, ::-1]
            place += along_row * between_columns * (pixels.shape[1] - 1)
            along_row = -along_row
        slice_.ImagePositionPatient = [f"{value:.6f}" for value in place]
        slice_.ImageOrientationPatient = [*along_row.tolist(), *along_column.tolist()]
        slice_.PixelData = np.ascontiguousarray(pixels).tobytes()
        slice_.save_as(path)


def flipped(*axes: bool) -> Callable[[sitk.Image], sitk.Image]:
    return lambda image: sitk.Flip(image, axes, False)


ORDERS: dict[str, Callable[[sitk.Image], sitk.Image]] = {
    "LPS": lambda image: image,
    "LAS (dcm2niix)": flipped(False, True, False),
    "RAS (nibabel)": flipped(True, True, False),
    "LPI": flipped(False, False, True),
    "SPL (KiTS)": lambda image: sitk.PermuteAxes(image, (2, 1, 0)),
    "ILA": lambda image: sitk.Flip(sitk.PermuteAxes(image, (2, 0, 1)), (True, False, True), False),
}


@pytest.fixture(scope="module", params=SHOWN)
def shown(
    request: pytest.FixtureRequest, sts_folder: Path, synthesizer: Synthesizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Volume, sitk.Image, sitk.Image]:
    """The CT's folder, the CT, the CT as an image of SimpleITK's own, and the PET of it as stored."""
    full = (sts_folder / request.param / "CT" / "image").rglob("*.dcm")
    files = sorted(full, key=lambda path: pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
    folder = tmp_path_factory.mktemp("CT")
    files = [Path(shutil.copy(path, folder / path.name)) for path in files[20:26]]  # of the middle: enough, and quick
    image = sitk.Cast(sitk.ReadImage([str(path) for path in files]), sitk.sitkFloat32)
    path = tmp_path_factory.mktemp("reference") / "pet.nrrd"
    ct = open_ct(folder)
    write_volume_file(synthesizer.apply(ct), path)
    return folder, ct, image, sitk.ReadImage(str(path))


def error_suv(pet: sitk.Image, reference: sitk.Image) -> NDArray[np.float64]:
    """Return |difference| on the reference's grid, by SimpleITK."""
    moved = sitk.Resample(pet, reference, sitk.Transform(), sitk.sitkNearestNeighbor, -1.0)
    return np.abs(sitk.GetArrayFromImage(moved).astype(float) - sitk.GetArrayFromImage(reference))


def test_the_model_depends_on_the_orientation_of_the_patient(
    shown: tuple[Path, Volume, sitk.Image, sitk.Image], synthesizer: Synthesizer
) -> None:
    """What the tests below would show, were the stored order to reach the network."""
    _, ct, _, reference = shown
    upside_down = replace(ct, array=np.ascontiguousarray(ct.array[:, ::-1]))
    predicted = synthesizer.apply(upside_down).array[:, ::-1]
    assert np.abs(predicted - sitk.GetArrayFromImage(reference)).max() > 100 * SAME_SUV


@pytest.mark.parametrize(
    ("order", "suffix"),
    [
        ("LPS", ".nii"), ("LAS (dcm2niix)", ".nii"), ("RAS (nibabel)", ".nii"), ("SPL (KiTS)", ".nii.gz"),
        ("LAS (dcm2niix)", ".nrrd"), ("SPL (KiTS)", ".nrrd"), ("LPI", ".mha"), ("ILA", ".nii"),
    ],
)  # fmt: skip
def test_every_voxel_order_gives_the_same_pet_on_its_own_grid(
    shown: tuple[Path, Volume, sitk.Image, sitk.Image],
    synthesizer: Synthesizer,
    tmp_path: Path,
    order: str,
    suffix: str,
) -> None:
    _, _, image, reference = shown
    stored = ORDERS[order](image)
    sitk.WriteImage(stored, str(tmp_path / f"ct{suffix}"))
    ct = open_ct(tmp_path / f"ct{suffix}")
    full = synthesizer.apply(ct)
    pet = sitk.ReadImage(str(write_volume_file(full, tmp_path / f"pet{suffix}")))
    assert pet.GetSize() == stored.GetSize()
    np.testing.assert_allclose(pet.GetDirection(), stored.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(pet.GetSpacing(), stored.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(pet.GetOrigin(), stored.GetOrigin(), atol=1e-4)
    assert error_suv(pet, reference).max() < SAME_SUV
    slices = slice(3, 5)
    slab = synthesizer.apply(ct, slices)
    np.testing.assert_array_equal(slab.array, full.array[slices])
    assert slab.geometry.same_grid_as(ct.geometry.slab(slices))


@pytest.mark.parametrize("turned", [{"rows": True}, {"columns": True}, {"rows": True, "columns": True}], ids=str)
def test_dicom_with_reversed_storage_order_gives_the_same_pet(
    shown: tuple[Path, Volume, sitk.Image, sitk.Image],
    synthesizer: Synthesizer,
    tmp_path: Path,
    turned: dict[str, bool],
) -> None:
    folder, _, _, reference = shown
    shutil.copytree(folder, tmp_path / "CT")
    reverse(tmp_path / "CT", **turned)
    ct = open_ct(tmp_path / "CT")
    pet = synthesizer.apply(ct)
    assert pet.geometry.same_grid_as(ct.geometry)
    written = sitk.ReadImage(str(write_volume_file(pet, tmp_path / "pet.nrrd")))
    assert error_suv(written, reference).max() < SAME_SUV


@pytest.mark.parametrize("slices", ["resample", "match"])
def test_a_pair_stored_with_reversed_rows_is_prepared_identically(
    studies: Path, recipe: Recipe, tmp_path: Path, slices: str
) -> None:
    preparation = Preparation(replace(recipe.grid, slices=slices), recipe.windows)  # type: ignore[arg-type]
    shutil.copytree(studies / LEARNT_FROM, tmp_path / "turned" / LEARNT_FROM)
    for modality in ("CT", "PET"):
        reverse(tmp_path / "turned" / LEARNT_FROM / modality / "image", rows=True)

    def arrays(root: Path, out: Path) -> PairArrays:
        scan = scan_folder(root)
        (paired,) = pair_series(scan).pairs
        report = prepare_pairs([paired], out, preparation=preparation, scan=scan)
        assert not report.failed
        return report.prepared.arrays(report.prepared.pairs[0])

    before = arrays(studies, tmp_path / "a")
    after = arrays(tmp_path / "turned", tmp_path / "b")
    assert after.pair.ct_slices == before.pair.ct_slices
    np.testing.assert_allclose(after.pair.affine, before.pair.affine, atol=1e-5)
    assert before.tumour().any()
    np.testing.assert_array_equal(after.regions, before.regions)
    for name in ("ct", "pet"):
        mine, theirs = (np.asarray(getattr(one, name), np.float64) for one in (after, before))
        np.testing.assert_allclose(mine, theirs, atol=np.finfo(np.float16).eps)  # of numbers about 1
