"""Ablation studies: cross-validation without the recipe's test patients, resumption, and the table."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.ablation import Ablation, Result, mean_over_pairs, run_ablation
from lib.experiments.ablation_table import difference, write_ablation
from lib.experiments.ablation_variants import Variant, read_variants
from lib.pairing.prepared import TUMOUR, PreparedSet
from scripts import ablate as script
from tests.learning.conftest import PATIENTS, TINY, make_prepared, tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (*TINY, "epochs=1", "stages=1")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ignite")


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedSet:
    prepared = make_prepared(tmp_path / "prepared", tiny_recipe().preparation)
    regions = np.load(tmp_path / "prepared" / "pairs" / prepared.pairs[0].id / "regions.npy")
    regions[2, 12:16, 12:16] |= TUMOUR
    np.save(tmp_path / "prepared" / "pairs" / prepared.pairs[0].id / "regions.npy", regions)
    return prepared


def ablate(prepared: PreparedSet, out: Path, *variants: Variant, only: tuple[int, ...] = ()) -> Ablation:
    return run_ablation(lambda _: prepared, "quantitative", SETTINGS, variants, out, folds=2, only=only)


def test_all_patients_except_the_recipes_test_patients_are_measured_once(prepared: PreparedSet, tmp_path: Path) -> None:
    ablation = ablate(prepared, tmp_path / "out", Variant("loss", "MSE", ("loss.kind=mse",)))
    split = tiny_recipe().split
    expected = {patient for patient in PATIENTS if split.side_of_patient(patient) != "test"}
    assert 0 < len(expected) < len(PATIENTS)
    for metrics in (*(result.model for result in ablation.results), *ablation.baselines.values()):
        assert set(metrics) == expected
    reference, other = (result.model for result in ablation.results)
    assert reference != other
    assert "tumour_suv_mean_error" in reference[prepared.pairs[0].patient_id]
    assert "tumour_suv_mean_error" not in reference[sorted(expected)[-1]]


def test_no_patient_is_measured_by_a_network_trained_on_them(prepared: PreparedSet, tmp_path: Path) -> None:
    ablate(prepared, tmp_path / "out")
    measured = [set(json.loads(path.read_text())) for path in (tmp_path / "out" / "figures").iterdir()]
    trained = [json.loads(path.read_text())["patients"] for path in (tmp_path / "out" / "runs").glob("*/split.json")]
    assert sorted(map(sorted, measured)) == sorted(sides["test"] for sides in trained)
    assert all(not set(sides["train"]) & set(sides["test"]) for sides in trained)


def test_flips_use_the_same_network(prepared: PreparedSet, tmp_path: Path) -> None:
    ablation = ablate(prepared, tmp_path / "out", Variant("flips", "none", ("synthesis.flips=false",)))
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 2  # one per fold
    flipped, plain = ablation.results
    assert plain.model != flipped.model
    assert flipped.gflop == pytest.approx(2 * plain.gflop)


def test_a_second_call_trains_nothing_and_folds_can_run_one_at_a_time(prepared: PreparedSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for fold in (0, 1):
        ablate(prepared, out, only=(fold,))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    full = ablate(prepared, out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(full.results[0].model) == set(full.baselines["zero"])


def test_a_learning_curve_uses_fewer_training_patients(prepared: PreparedSet, tmp_path: Path) -> None:
    ablation = ablate(prepared, tmp_path / "out", Variant("curve", "2 patients", patients=2))
    trained = [
        len(json.loads(path.read_text())["patients"]["train"])
        for path in (tmp_path / "out" / "runs").glob("*/split.json")
    ]
    assert sorted(trained) == [2, 2, 2, 3]  # both folds under the reference, then both with two patients
    assert set(ablation.results[1].model) == set(ablation.results[0].model)
    with pytest.raises(PreparedDataError, match="50 training patients were requested, but this fold has"):
        ablate(prepared, tmp_path / "out", Variant("curve", "50 patients", patients=50))


def test_an_ensemble_is_the_mean_of_networks_from_several_seeds(prepared: PreparedSet, tmp_path: Path) -> None:
    ablation = ablate(prepared, tmp_path / "out", Variant("ensemble", "2 networks", seeds=2))
    seeds = [json.loads(path.read_text())["seed"] for path in (tmp_path / "out" / "runs").glob("*/recipe.json")]
    assert sorted(seeds) == [0, 0, 1, 1]  # in both folds the reference is one of the two
    one, mean = ablation.results
    assert mean.gflop == pytest.approx(2 * one.gflop)
    assert one.model != mean.model


def test_results_of_other_studies_are_rejected(prepared: PreparedSet, tmp_path: Path) -> None:
    ablate(prepared, tmp_path / "out", only=(0,))
    fewer = replace(prepared, pairs=prepared.pairs[1:])
    with pytest.raises(PreparedDataError, match="holds results of other studies; choose another folder"):
        ablate(fewer, tmp_path / "out", only=(0,))


def test_folds_that_do_not_exist_are_rejected(prepared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"expected folds from 0 to 1 of at least 2, found \[2\] of 2"):
        ablate(prepared, tmp_path / "out", only=(2,))


def test_the_table_marks_significant_differences(tmp_path: Path) -> None:
    patients = [f"P{number}" for number in range(12)]

    def shifted(shift: float) -> dict[str, dict[str, float]]:
        return {
            patient: {
                "mae_suv_body": 0.5 + number / 100 + shift,
                "psnr_db_body": 20.0,
                "tumour_suv_mean_error": -3 - shift,
            }
            for number, patient in enumerate(patients)
        }

    ablation = Ablation(
        (
            Result(Variant("reference", "reference"), 1.0, shifted(0.0)),
            Result(Variant("loss", "better", ("loss.kind=l1",)), 1.0, shifted(-0.1)),
            Result(Variant("loss", "worse"), 2.0, shifted(0.2)),
        ),
        {"zero": shifted(1.0)},
    )
    assert difference(shifted(0.2), shifted(0.0), "mae_suv_body").mean == pytest.approx(0.2)
    assert difference(shifted(0.2), shifted(0.0), "tumour_suv_mean_error").mean == pytest.approx(0.2)  # absolute value
    csv_path, markdown_path = write_ablation(ablation, tmp_path, title="A table", note="Example data")
    text = markdown_path.read_text()
    assert "better: `loss.kind=l1`" in text
    assert "0.455 (**-0.100, -0.100 to -0.100**)" in text
    assert "~~+0.200, +0.200 to +0.200~~" in text
    assert "20.00 (+0.00, +0.00 to +0.00)" in text
    assert "12 patients" in text
    assert "Example data" in text
    with csv_path.open() as file:
        assert [line["choice"] for line in csv.DictReader(file)] == [
            "reference", "better: `loss.kind=l1`", "worse", "zero",
        ]  # fmt: skip
    assert json.loads((tmp_path / "ablation.json").read_text())["results"][2]["gflop"] == 2.0


def test_an_undefined_metric_is_a_dash_and_null_in_json(tmp_path: Path) -> None:
    metrics = {patient: {"mae_suv_body": 0.5} for patient in "abc"}
    other = {patient: {"mae_suv_body": 0.4, "psnr_db_body": 20.0} for patient in "abc"}
    results = (Result(Variant("reference", "reference"), 1.0, metrics), Result(Variant("loss", "other"), 1.0, other))
    _, markdown_path = write_ablation(Ablation(results, {"zero": metrics}), tmp_path, title="No tumours")
    text = markdown_path.read_text()
    assert "| 0.500 | – | – | – | – |" in text and "nan" not in text
    assert "20.00 (no common patients)" in text
    document = json.loads((tmp_path / "ablation.json").read_text(), parse_constant=pytest.fail)
    assert document["baselines"]["zero"]["mean"]["tumour_suv_mean_error"] is None


def test_pairs_of_one_patient_count_as_their_mean() -> None:
    measured = [("a", {"mae_suv_body": 1.0}), ("b", {}), ("a", {"mae_suv_body": 2.0, "psnr_db_body": 20.0})]
    assert mean_over_pairs(measured) == {"a": {"mae_suv_body": 1.5, "psnr_db_body": 20.0}, "b": {}}


def test_the_shipped_variants_are_valid_settings() -> None:
    variants = read_variants(ROOT / "lib" / "learning" / "recipes" / "choices" / "ablation.toml")
    topics = {
        "learning curve",
        "loss",
        "SUV scale",
        "context",
        "stages",
        "supervision",
        "averaging",
        "flips",
        "ensemble",
    }
    assert topics | {"augmentation", "schedule", "width and depth"} <= {variant.topic for variant in variants}
    for variant in variants:
        tiny_recipe(*variant.settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected \[\[choice\]\] tables"),
        ('[[choice]]\ntopic = "loss"', r"expected \[\[choice\]\] tables"),
        (
            '[[choice]]\ntopic = "a"\nname = "x"\nseeds = 0',
            "variant 'x': patients must be at least 0 and seeds",
        ),
        ('[[choice]]\ntopic = "a"\nname = "x"\npatients = "4"', r"expected \[\[choice\]\] tables"),
        ('[[choice]]\ntopic = "a"\nname = "reference"', "names must be unique and not 'reference'"),
        ('[[choice]]\ntopic = "a"\nname = "x"\n' * 2, "names must be unique and not 'reference'"),
    ],
)
def test_an_invalid_file_of_variants_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "choices.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_variants(path)


def test_the_script_prints_the_table(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [str(ROOT / "scripts" / "ablate.py"), str(prepared.root), "--out", str(tmp_path / "out"), "--folds", "2"]
    completed = subprocess.run(
        [sys.executable, *command, "--only", "MSE", *settings], capture_output=True, text=True, timeout=300
    )
    assert completed.returncode == 0, completed.stderr
    assert "| MSE: `loss.kind=mse` | loss |" in completed.stdout
    assert np.ptp(imread(tmp_path / "out" / "ablation.png")) > 0
    for mistake, message in (
        ("--only=MES", "--only 'MES' is neither a topic nor a name"),
        ("--set=windows.pet_curve=linear", "give one that was (main.py prepare)"),
    ):
        monkeypatch.setattr(sys, "argv", [*command, mistake])
        assert script.main() == 2
        assert message in capsys.readouterr().err
