"""`prepare`, `train`, `synthesize` and `evaluate` as a person types them, on phantoms."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import main
from lib.dicom.open_ct import open_ct
from lib.learning.checkpoint import file_checksum
from lib.learning.progress import read_history
from lib.measures.calibration import Calibration
from lib.sources.phantom import PhantomSettings, phantom_patient
from lib.sources.phantom_dicom import write_study
from tests.ct2pet_app.constant_model import save_constant_model
from tests.learning.conftest import TINY

REPOSITORY = Path(__file__).resolve().parents[1]
COARSE = PhantomSettings(slices=10, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
SETTINGS = [word for setting in (*TINY, "pixel_mm=6.4") for word in ("--set", setting)]
# By the default split 1 and 3 are trained on, 7 is chosen on, 2 is never seen: see tests/pairing/test_split.py
PATIENTS = (1, 2, 3, 7)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    for number in PATIENTS:
        patient = phantom_patient(number, 0, COARSE)
        write_study(patient, root / patient.patient_id)
    return root


@pytest.fixture(scope="module")
def arrays(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("arrays")
    assert main.main(["prepare", str(studies), "--out", str(out), *SETTINGS]) == 0
    return out


@pytest.fixture(scope="module")
def model(arrays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main.main(["train", str(arrays), "--out", str(run), *SETTINGS]) == 0
    return run / "model.safetensors"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()  # what fixtures said
    code = main.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line a wrong input is answered with."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, err
    return err


# -- prepare -----------------------------------------------------------------------------------------------------------


def test_prepare_tells_what_it_did(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "arrays"
    assert run_json(capsys, "prepare", studies, "--out", out, *SETTINGS) == {
        "out": str(out), "pairs": 4, "reused": 0, "failed": [],
    }  # fmt: skip
    code, told, _ = run(capsys, "prepare", studies, "--out", out, *SETTINGS)
    assert (code, told) == (0, f"4 pairs in {out}, 4 of them from before\n")
    assert "choose another folder" in refused(capsys, "prepare", studies, "--out", out, "--recipe", "paper")


def test_a_pair_that_cannot_be_prepared_is_left_out(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(studies / "PHANTOM_0001", tmp_path / "studies" / "1")
    shifted = phantom_patient(2, 0, PhantomSettings(slices=4, pet_slice_offset_mm=1.5, ct_matrix=32, ct_pixel_mm=12.8))
    write_study(shifted, tmp_path / "studies" / "2")
    arguments = ("prepare", tmp_path / "studies", "--recipe", "paper", "--set", "grid.size=32")
    told = run_json(capsys, *arguments, "--out", tmp_path / "arrays")
    assert told["pairs"] == 1
    (failed,) = told["failed"]
    assert failed["patient_id"] == "PHANTOM_0002" and "no PET slice lies within 0.2 mm" in failed["reason"]
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "other")
    assert code == 0 and out.startswith("1 pairs in ")
    assert err.startswith("left out: PHANTOM_0002: no PET slice lies within 0.2 mm")


# -- train -------------------------------------------------------------------------------------------------------------


def test_training_leaves_a_model_and_a_table(arrays: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # the run is finished: --resume returns it as it is
    code, out, _ = run(capsys, "train", arrays, "--out", model.parent, *SETTINGS, "--resume")
    assert code == 0
    assert "1 validation patients" in out and "body MAE [SUV]" in out and "body PSNR [dB]" in out and "hu_median" in out
    assert "Judged on 1 validation patient, on whom its weights were chosen (few, so that" in out
    assert f"2 epochs (the run was finished before); model: {model}" in out


def test_training_tells_json(arrays: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run_json(capsys, "train", arrays, "--out", model.parent, *SETTINGS, "--resume")
    assert told.keys() == {"model", "epochs", "stopped_because", "scores", "standing"}
    assert told["model"] == str(model) and told["scores"]["side"] == "validation"
    assert told["scores"]["table"].keys() == {"model", "zero", "constant", "hu_mean", "hu_median"}


def test_a_card_is_shown(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "card", model)
    assert code == 0 and "quantitative-2" in out and "2 patients, 2 pairs, 20 slices" in out
    assert "computed chest phantom (2 patients)" in out and "CHEST" in out and "Set aside" in out
    assert "Learnt from 2 patients: one CT scanner model (ct2pet computed chest phantom)" in out
    told = run_json(capsys, "card", model)
    assert told["standing"]["sentence"] in out
    assert list(told["scores"]["by_patient"]) == told["training"]["validation_patients"]
    assert "not a readable .safetensors file" in refused(capsys, "card", model.parent / "recipe.json")


def test_training_starts_from_dicom_and_takes_stages(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run_json(
        capsys, "train", studies, "--out", tmp_path / "run", *SETTINGS, "--set", "epochs=1", "--stages", "1"
    )
    assert told["epochs"] == 1 and len(read_history(tmp_path / "run")) == 1
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["network"]["stages"] == 1
    assert (tmp_path / "run" / "prepared" / "index.json").is_file()


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # MLflow's own use of SQLAlchemy
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_finished_run_can_be_tracked_afterwards(
    arrays: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--resume", "--tracking", "mlflow", "--tracking-uri", tmp_path / "all", "--experiment", "phantoms")
    run_json(capsys, "train", arrays, "--out", model.parent, *SETTINGS, *words)
    told = json.loads((model.parent / "tracking.json").read_text())
    assert told["experiment"] == "phantoms" and (tmp_path / "all" / "mlflow.db").is_file()
    (card,) = (tmp_path / "all").glob(f"mlruns/{told['run_id']}/artifacts/model_card.json")
    assert "PHANTOM" not in card.read_text()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--recipe", "papier"], "no recipe 'papier'; shipped are paper, quantitative"),
        (["--set", "epoch=3"], "did you mean schedule.epochs?"),
        (["--set", "epochs=many"], "schedule.epochs is int, found 'many'"),
        (["--stages", "7"], "network.stages is 1 to 6, found 7"),
        (["--tracking", "wandb"], "tracking 'wandb': expected mlflow or none"),
        (["--device", "gpu"], "device 'gpu' is not a device; give auto, cpu, cuda or cuda:1"),
        (["--set", "split.test=0.7", "--set", "split.validation=0.29"], "none of the 4 patients falls on the training"),
    ],
)
def test_wrong_words_to_train_exit_with_2(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], answer: str
) -> None:
    assert answer in refused(capsys, "train", arrays, "--out", tmp_path / "run", *SETTINGS, *words)
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_go_on_exits_with_1_and_says_why(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ("--set", "learning_rate=1e30", "--set", "clip_norm=0", "--set", "normalization=none")
    code, out, err = run(capsys, "train", arrays, "--out", tmp_path / "run", *SETTINGS, *wild)
    assert (code, out) == (1, "")
    assert err.startswith("error: epoch 1: the loss is ") and err.count("\n") == 1
    assert "lower optimiser.learning_rate" in err


def test_training_on_a_folder_without_dicom_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "no DICOM series found" in refused(capsys, "train", tmp_path / "empty", "--out", tmp_path / "run")


# -- synthesize --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_synthesize_writes_suv_on_the_cts_grid(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    out = tmp_path / f"pet{suffix}"
    told = run_json(capsys, "synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", out)
    assert told.keys() == {"out", "model", "sha256", "shape", "spacing_mm", "suv_max", "suv_mean"}
    assert (told["out"], told["sha256"], told["shape"]) == (str(out), file_checksum(model), [10, 64, 64])
    written, ct = sitk.ReadImage(str(out)), open_ct(studies / "PHANTOM_0002" / "CT")
    assert written.GetPixelID() == sitk.sitkFloat32 and written.GetSize() == (64, 64, 10)
    np.testing.assert_allclose(written.GetOrigin(), ct.geometry.origin_mm, atol=1e-3)
    np.testing.assert_allclose(written.GetSpacing(), ct.geometry.spacing_mm[::-1], atol=1e-4)
    assert float(sitk.GetArrayViewFromImage(written).max()) == pytest.approx(told["suv_max"])


def test_the_error_to_expect_is_written_beside_the_pet(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
    model = save_constant_model(tmp_path / "model.safetensors", 2.0, calibration=curve)
    words = ["synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", tmp_path / "pet.nrrd"]
    told = run_json(capsys, *words, "--uncertainty", tmp_path / "error.nii.gz", "--slices", "3:6")
    assert told["uncertainty"] == str(tmp_path / "error.nii.gz")
    pet, error = (sitk.ReadImage(str(tmp_path / name)) for name in ("pet.nrrd", "error.nii.gz"))
    assert error.GetSize() == pet.GetSize() == (64, 64, 3) and error.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(error.GetOrigin(), pet.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(np.unique(sitk.GetArrayFromImage(error)), [0, 0.5], rtol=1e-2)
    assert "need two files" in refused(capsys, *words, "--uncertainty", tmp_path / "pet.nrrd")
    assert "unknown suffix" in refused(capsys, *words, "--uncertainty", tmp_path / "error.png")


def test_a_model_that_expects_no_error_says_so_and_writes_nothing(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_constant_model(tmp_path / "model.safetensors", 2.0)
    words = ["synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", tmp_path / "pet.nrrd"]
    assert "carries no calibration" in refused(capsys, *words, "--uncertainty", tmp_path / "error.nrrd")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_slab_is_the_same_slices_of_the_whole(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct = studies / "PHANTOM_0002" / "CT"
    run_json(capsys, "synthesize", ct, "--model", model, "--out", tmp_path / "whole.nrrd")
    code, out, _ = run(capsys, "synthesize", ct, "--model", model, "--out", tmp_path / "slab.nrrd", "--slices", "3:6")
    assert code == 0 and "SYNTHETIC PET, SUVbw" in out and "NOT FOR DIAGNOSIS" in out
    whole, slab = (sitk.ReadImage(str(tmp_path / name)) for name in ("whole.nrrd", "slab.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(slab), sitk.GetArrayFromImage(whole)[3:6])
    np.testing.assert_allclose(slab.GetOrigin(), whole.TransformIndexToPhysicalPoint((0, 0, 3)), atol=1e-6)


def test_a_volume_file_in_hu_is_taken_as_well(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct = open_ct(studies / "PHANTOM_0002" / "CT")
    main_ct = sitk.GetImageFromArray(ct.array)
    main_ct.SetSpacing(ct.geometry.spacing_mm[::-1])
    sitk.WriteImage(main_ct, str(tmp_path / "ct.nii.gz"))
    told = run_json(capsys, "synthesize", tmp_path / "ct.nii.gz", "--model", model, "--out", tmp_path / "pet.nrrd")
    assert told["shape"] == [10, 64, 64]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--slices", "9:20"], "slices 9:20 are not a range within the 10 slices (0:10)"),
        (["--slices", "four"], "slices 'four' are not A:B, such as 10:26"),
        (["--series", "1.2.3"], "series 1.2.3: not found; `main.py scan` lists what is there"),
        (["--model", "missing.safetensors"], "missing.safetensors: not a readable .safetensors file"),
        (["--out", "pet.png"], "pet.png: unknown suffix; give one of .nii.gz, .nii, .nrrd, .mha"),
        (["--format", "dicom"], "pet.nrrd: names a volume file; a DICOM series is written into a folder"),
        (["--format", "nifti"], "pet.nrrd: not of format nifti, whose names end in .nii.gz or .nii"),
        (["--format", "png"], "format png: unknown; give one of dicom, nrrd, nifti"),
    ],
)
def test_wrong_words_to_synthesize_exit_with_2(
    studies: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    answer: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["synthesize", studies / "PHANTOM_0002" / "CT", "--model", model, "--out", "pet.nrrd"]
    assert answer in refused(capsys, *arguments, *words)
    assert not list(tmp_path.iterdir())


def test_what_is_no_ct_exits_with_2(
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
        (studies, "4 CT series; name one with --series"),
    ):
        assert answer in refused(capsys, "synthesize", path, "--model", model, "--out", tmp_path / "pet.nrrd")


def test_a_pickled_model_exits_with_2(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"weights": torch.zeros(3)}, tmp_path / "model.pt")
    answer = refused(
        capsys, "synthesize", studies / "PHANTOM_0002" / "CT", "--model", tmp_path / "model.pt", "--out", "pet.nrrd"
    )
    assert "model.pt: not a readable .safetensors file" in answer


# -- evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluate_judges_patients_never_seen(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures"
    told = run_json(capsys, "evaluate", studies, "--model", model, "--out", out, "--note", "phantoms")
    assert told == json.loads((out / "evaluation.json").read_text())
    assert {patient["patient_id"]: patient["seen"] for patient in told["patients"]} == {
        "PHANTOM_0001": "train", "PHANTOM_0002": "no", "PHANTOM_0003": "train", "PHANTOM_0007": "validation",
    }  # fmt: skip
    assert told["judged_patients"] == 1 and list(told["baselines"]) == ["zero", "constant", "hu_mean", "hu_median"]
    assert told["model"] == {"name": "quantitative-2", "sha256": file_checksum(model)}
    assert len({path.name.split("-")[0] for path in out.glob("*.png")}) == 4 and (out / "patients.csv").is_file()


def test_evaluate_prints_tables(studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(studies / "PHANTOM_0001", tmp_path / "studies" / "1")
    shutil.copytree(studies / "PHANTOM_0002", tmp_path / "studies" / "2")
    code, out, _ = run(capsys, "evaluate", tmp_path / "studies", "--model", model, "--out", tmp_path / "figures")
    assert code == 0
    assert "PHANTOM_0001 (seen in train, not in the means)" in out and "mean of 1 patients" in out
    assert sum("hu_mean" in line and "│" in line for line in out.splitlines()) == 3  # two patients and the mean
    assert "one patient gives no confidence interval" in out
    assert out.endswith(f"report: {tmp_path / 'figures' / 'report.html'}\n")


def test_evaluate_on_seen_patients_exits_with_2(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = refused(capsys, "evaluate", studies / "PHANTOM_0001", "--model", model, "--out", tmp_path / "figures")
    assert "give studies of other patients" in answer


@pytest.mark.slow
def test_as_a_process_of_its_own_stdout_is_json_and_stderr_is_silent(
    studies: Path, model: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", studies / "PHANTOM_0002", "--model", model, "--out", tmp_path / "figures", "--json"]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "main.py"), *map(str, arguments)],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["judged_patients"] == 1
