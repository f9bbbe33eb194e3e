"""`evaluate`: comparison with other programs, several models, and the sentences at the end of the output."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lib.learning.checkpoint import save_checkpoint
from lib.networks.cascade import Cascade
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.cli.runner import refused, run, run_json
from tests.learning.conftest import make_card, tiny_recipe

COARSE = PhantomSettings(slices=8, ct_matrix=48, ct_pixel_mm=8.5, pet_matrix=32, pet_pixel_mm=12.8)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    for number in (2, 4):
        patient = phantom_patient(number, 0, COARSE)
        write_study(patient, root / patient.patient_id)
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")

    def save(seed: int) -> Path:
        torch.manual_seed(seed)
        recipe = tiny_recipe("pixel_mm=8.5")
        card = make_card(recipe=recipe, network=recipe.network)
        return save_checkpoint(root / f"{seed}.safetensors", Cascade(recipe.network), card)

    return save(0), save(1)


def test_another_program_is_compared_and_the_sentences_are_printed(
    studies: Path, models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "peer").mkdir()
    uid = run_json(capsys, "pair", studies)[0]["ct_series_instance_uid"]
    pet = tmp_path / "peer" / f"{uid}.nrrd"
    assert run(capsys, "synthesize", studies / "PHANTOM_0002" / "CT", "--model", models[1], "--out", pet)[0] == 0
    code, out, err = run(
        capsys, "evaluate", studies, "--model", models[0], "--out", tmp_path / "out", "--compare", f"Other={pet.parent}"
    )
    assert code == 0 and "not compared: PHANTOM_0004: Other has no volume of CT" in err
    lines = out.splitlines()
    assert ["tested on 1 patient. Body MAE " in line and "(Other)" in line for line in lines].count(True) == 1
    for target in ("body MAE", "body PSNR", "body correlation", "Tumour SUVmean"):
        assert any(target.lower() in line.lower() for line in lines), target
    assert lines[-1].startswith("report: ")


def test_the_mean_of_two_models_is_one_method(
    studies: Path, models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(studies / "PHANTOM_0002", tmp_path / "studies")
    arguments = ("evaluate", tmp_path / "studies", "--model", models[0], "--model", models[1])
    result = run_json(capsys, *arguments, "--out", tmp_path / "out")
    assert result["model"]["name"] == "mean of 2 models like tiny"


def test_both_spellings_of_the_comparison_are_taken_together(
    studies: Path, models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--compare", f"Other={tmp_path}", "--beside", f"Other={tmp_path}", "--out", tmp_path / "out")
    assert "the name 'Other' is reserved or already used" in refused(
        capsys, "evaluate", studies, "--model", models[0], *options
    )
    assert "--beside" not in run(capsys, "evaluate", "--help")[1]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--compare", "nothing"], "'nothing': expected NAME=FOLDER"),
        (["--beside", "nothing"], "'nothing': expected NAME=FOLDER"),
        (["--compare", "zero=."], "the name 'zero' is reserved"),
        (["--contour", "none.dcm"], "none.dcm: cannot be opened"),
    ],
)
def test_invalid_options_exit_with_2(
    studies: Path, models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: list[str], error: str,
) -> None:  # fmt: skip
    assert error in refused(capsys, "evaluate", studies, "--model", models[0], "--out", tmp_path / "out", *options)
