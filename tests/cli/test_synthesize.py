"""`synthesize` on phantoms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.dicom.scan.open_ct import open_ct
from lib.files import file_checksum
from lib.metrics.calibration import Calibration
from tests.cli.runner import refused, run, run_json
from tests.ct2pet_app.constant_model import save_constant_model
from tests.learning.familiarity.limbs import limb_reference

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_synthesize_writes_suv_on_the_cts_grid(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    out = tmp_path / f"pet{suffix}"
    result = run_json(capsys, "synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", out)
    assert result.keys() == {
        "out", "model", "sha256", "runtime", "shape", "spacing_mm", "suv_max", "suv_mean", "familiarity",
    }  # fmt: skip
    assert result["runtime"]["name"] == "folded" and result["runtime"]["difference_suv"] <= 0.02
    assert (result["out"], result["sha256"], result["shape"]) == (str(out), file_checksum(model), [10, 64, 64])
    written, ct = sitk.ReadImage(str(out)), open_ct(studies / "PHANTOM_0002" / "CT")
    assert written.GetPixelID() == sitk.sitkFloat32 and written.GetSize() == (64, 64, 10)
    np.testing.assert_allclose(written.GetOrigin(), ct.geometry.origin_mm, atol=1e-3)
    np.testing.assert_allclose(written.GetSpacing(), ct.geometry.spacing_mm[::-1], atol=1e-4)
    assert float(sitk.GetArrayViewFromImage(written).max()) == pytest.approx(result["suv_max"])


def test_the_expected_error_is_written_to_its_own_file(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
    model = save_constant_model(tmp_path / "model.safetensors", 2.0, calibration=curve)
    arguments = ["synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", tmp_path / "pet.nrrd"]
    result = run_json(capsys, *arguments, "--uncertainty", tmp_path / "error.nii.gz", "--slices", "3:6")
    assert result["uncertainty"] == str(tmp_path / "error.nii.gz")
    pet, error = (sitk.ReadImage(str(tmp_path / name)) for name in ("pet.nrrd", "error.nii.gz"))
    assert error.GetSize() == pet.GetSize() == (64, 64, 3) and error.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(error.GetOrigin(), pet.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(np.unique(sitk.GetArrayFromImage(error)), [0, 0.5], rtol=1e-2)
    assert "need two files" in refused(capsys, *arguments, "--uncertainty", tmp_path / "pet.nrrd")
    assert "unknown suffix" in refused(capsys, *arguments, "--uncertainty", tmp_path / "error.png")


def test_a_model_without_calibration_is_refused_and_nothing_is_written(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_constant_model(tmp_path / "model.safetensors", 2.0)
    arguments = ["synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", tmp_path / "pet.nrrd"]
    assert "carries no calibration" in refused(capsys, *arguments, "--uncertainty", tmp_path / "error.nrrd")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_slab_equals_the_same_slices_of_the_whole_volume(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct = studies / "PHANTOM_0002" / "CT"
    run_json(capsys, "synthesize", ct, "--model", model, "--out", tmp_path / "whole.nrrd")
    code, out, _ = run(capsys, "synthesize", ct, "--model", model, "--out", tmp_path / "slab.nrrd", "--slices", "3:6")
    assert code == 0 and "SYNTHETIC PET, SUVbw" in out and "NOT FOR DIAGNOSIS" in out
    whole, slab = (sitk.ReadImage(str(tmp_path / name)) for name in ("whole.nrrd", "slab.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(slab), sitk.GetArrayFromImage(whole)[3:6])
    np.testing.assert_allclose(slab.GetOrigin(), whole.TransformIndexToPhysicalPoint((0, 0, 3)), atol=1e-6)


def test_files_are_compressed_on_request(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct, stored, packed = studies / "PHANTOM_0002" / "CT", tmp_path / "stored.nrrd", tmp_path / "packed.nrrd"
    run_json(capsys, "synthesize", ct, "--model", model, "--out", stored)
    run_json(capsys, "synthesize", ct, "--model", model, "--out", packed, "--compress")
    assert packed.stat().st_size < stored.stat().st_size
    voxels, unpacked = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (stored, packed))
    np.testing.assert_array_equal(voxels, unpacked)
    series = (ct, "--model", model, "--out", tmp_path / "series", "--format", "dicom", "--compress")
    assert "a DICOM series is not compressed: omit it" in refused(capsys, "synthesize", *series)
    assert not (tmp_path / "series").exists()


def test_a_volume_file_in_hu_is_accepted(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct = open_ct(studies / "PHANTOM_0002" / "CT")
    main_ct = sitk.GetImageFromArray(ct.array)
    main_ct.SetSpacing(ct.geometry.spacing_mm[::-1])
    sitk.WriteImage(main_ct, str(tmp_path / "ct.nii.gz"))
    result = run_json(capsys, "synthesize", tmp_path / "ct.nii.gz", "--model", model, "--out", tmp_path / "pet.nrrd")
    assert result["shape"] == [10, 64, 64]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--slices", "9:20"], "slices 9:20 are not a range within the 10 slices (0:10)"),
        (["--slices", "four"], "invalid slice range 'four': expected A:B, such as 10:26"),
        (["--series", "1.2.3"], "series 1.2.3: not found; `python main.py scan` lists the series and their faults"),
        (["--model", "missing.safetensors"], "missing.safetensors: not a readable .safetensors file"),
        (["--out", "pet.png"], "pet.png: unknown suffix; expected one of .nii.gz, .nii, .nrrd, .mha"),
        (["--format", "dicom"], "pet.nrrd: name of a volume file; a DICOM series needs a folder"),
        (["--format", "nifti"], "pet.nrrd: expected a name ending in .nii.gz or .nii for the format nifti"),
        (["--format", "png"], "unknown format png: expected one of dicom, nrrd, nifti"),
    ],
)
def test_invalid_options_exit_with_2(
    studies: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", "pet.nrrd"]
    assert error in refused(capsys, *arguments, *options)
    assert not list(tmp_path.iterdir())


def test_input_that_is_not_a_ct_exits_with_2(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no CT")
    sitk.WriteImage(sitk.GetImageFromArray(np.eye(64)[None].repeat(9, 0)), str(tmp_path / "mr.nrrd"))
    (tmp_path / "torn.nrrd").write_bytes(b"NRRD0004\n")
    for path, answer in (
        (tmp_path / "notes.txt", "notes.txt: not a volume file"),
        (tmp_path / "mr.nrrd", "mr.nrrd: not a CT in HU"),
        (tmp_path / "torn.nrrd", "torn.nrrd: cannot be read as a volume"),
        (tmp_path / "nothing", "nothing"),
        (studies / "PHANTOM_0002" / "PET", "no usable CT series"),
        (studies, "; choose it with --series"),
    ):
        assert answer in refused(capsys, "synthesize", path, "--model", model, "--out", tmp_path / "pet.nrrd")


def test_a_pickled_model_exits_with_2(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"weights": torch.zeros(3)}, tmp_path / "model.pt")
    answer = refused(
        capsys, "synthesize", studies / "PHANTOM_0002" / "CT", "--model", tmp_path / "model.pt", "--out", "pet.nrrd"
    )
    assert "model.pt: not a readable .safetensors file" in answer


def test_a_ct_unlike_the_training_cts_is_refused_unless_allowed(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limbs = save_constant_model(tmp_path / "limbs.safetensors", 2.5, stages=1, familiarity=limb_reference())
    command = ("synthesize", studies / "PHANTOM_0002" / "CT", "--model", limbs, "--out", tmp_path / "pet.nrrd")
    message = refused(capsys, *command)
    assert message.startswith("error: CT: This CT is unlike the training CTs: ")
    assert message.rstrip().endswith(
        "train on CTs like this one; or synthesise its PET all the same with --allow-unlike"
    )
    assert not (tmp_path / "pet.nrrd").exists()
    assert run_json(capsys, *command, "--allow-unlike")["familiarity"]["level"] == "unlike"


@pytest.mark.parametrize("name", ["pet", "pet.nrrd"])
def test_libraries_of_other_formats_are_not_imported(studies: Path, model: Path, tmp_path: Path, name: str) -> None:
    """They would take 0.1 s."""
    arguments = ["synthesize", str(studies / "PHANTOM_0002" / "CT"), "--model", str(model), "--slices", "0:2"]
    arguments += ["--out", str(tmp_path / name), *(() if "." in name else ("--format", "dicom"))]
    program = f"import sys, main; code = main.main({arguments!r}); print(*sys.modules, file=sys.stderr); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert {"SimpleITK", "nibabel", "monai", "scipy"} & set(done.stderr.split()) == set()
    assert (tmp_path / name).exists()
