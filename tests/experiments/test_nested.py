"""Nested cross-validation: no choice sees the patients that it is judged by; resumption, tables, the commands."""

from __future__ import annotations

import csv
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.nested.ablation import CHOICES, run_ablation
from lib.experiments.nested.choice import Choice, InnerResults, choose
from lib.experiments.nested.measure import STRATA, stratum_of
from lib.experiments.nested.protocol import Candidate, NestedResult, run_nested
from lib.experiments.nested.table import CHOSEN, difference, methods_of, sentences_of_strata, write_nested
from lib.experiments.variants import REFERENCE, Variant, read_variants
from lib.learning.cross_validation.shrinkage import WEIGHTS
from lib.learning.recipe import load_recipe
from lib.metrics.baselines import BASELINE_NAMES
from lib.pairing.prepared import TUMOUR, PreparedSet
from main import main
from tests.learning.conftest import PATIENTS, TINY, make_prepared, tiny_recipe

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "ablate.py"
SETTINGS = (*TINY, "epochs=1", "stages=1")
FOLDS = 3

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ignite")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    prepared = make_prepared(tmp_path_factory.mktemp("prepared"), tiny_recipe().preparation)
    regions = prepared.root / "pairs" / prepared.pairs[0].id / "regions.npy"
    stored = np.load(regions)
    stored[2, 12:16, 12:16] |= TUMOUR
    np.save(regions, stored)
    return prepared


def candidates(*variants: Variant) -> list[Candidate]:
    return [
        Candidate(variant, load_recipe(settings=(*SETTINGS, *variant.settings)))
        for variant in (Variant(REFERENCE, REFERENCE), *variants)
    ]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nested")


@pytest.fixture(scope="module")
def result(shared: PreparedSet, out: Path) -> NestedResult:
    variants = (Variant("loss", "MSE", ("loss.kind=mse",)), Variant("flips", "none", ("synthesis.flips=false",)))
    return run_nested(lambda _: shared, candidates(*variants), out, folds=FOLDS, device="cpu")


def trained_patients(out: Path) -> list[set[str]]:
    return [set(json.loads(path.read_text())["patients"]["train"]) for path in (out / "networks").glob("*/split.json")]


def test_every_patient_is_measured_once_for_every_method(result: NestedResult) -> None:
    methods = methods_of(result)
    assert list(methods) == [CHOSEN, REFERENCE, "MSE", "none", *BASELINE_NAMES]
    assert all(set(values) == set(PATIENTS) for values in methods.values())
    assert "tumour_suv_mean_error" in methods[REFERENCE][PATIENTS[0]]
    assert "tumour_suv_mean_error" not in methods[REFERENCE][PATIENTS[1]]
    assert methods[REFERENCE] != methods["MSE"]


def test_a_network_is_trained_without_two_folds_and_serves_both(result: NestedResult, out: Path) -> None:
    trained = trained_patients(out)
    assert len(trained) == 2 * 3  # flips use the networks of the reference: pairs of folds, times two recipes
    left_out = {frozenset(set(PATIENTS) - patients) for patients in trained}
    of_fold = [{p for p, fold in result.fold_of.items() if fold == number} for number in range(FOLDS)]
    assert left_out == {frozenset(of_fold[i] | of_fold[j]) for i, j in ((0, 1), (0, 2), (1, 2))}


def test_the_choice_for_a_fold_is_made_by_the_other_patients(result: NestedResult) -> None:
    for choice in result.choices:
        judged = [patient for patient, fold in result.fold_of.items() if fold == choice.outer]
        assert choice.patients == len(PATIENTS) - len(judged)
        assert choice.candidate == min(choice.criterion, key=lambda name: choice.criterion[name])
        for patient in judged:
            assert result.chosen[patient] == result.by_candidate[choice.candidate][patient]
        assert set(choice.weights.values()) <= set(WEIGHTS)


def test_a_choice_that_has_seen_its_judges_is_refused() -> None:
    ratios = {"reference": {"a": dict.fromkeys(WEIGHTS, 0.0), "b": dict.fromkeys(WEIGHTS, 0.0)}}
    with pytest.raises(PreparedDataError, match="1 patients of outer fold 2 were measured for the choice") as raised:
        InnerResults(2, frozenset({"b", "c"}), ratios)
    assert raised.value.code == "leaked_patients"
    assert raised.value.params == {"fold": 2, "patients": 1}


def test_the_lowest_ratio_is_chosen_with_its_weight() -> None:
    def ratios(*values: float) -> dict[float, float]:
        return dict(zip(WEIGHTS, values, strict=True))

    inner = InnerResults(
        0,
        frozenset(),
        {
            "steady": {"a": ratios(-0.1, -0.2, -0.1, 0, 0, 0), "b": ratios(-0.1, -0.2, -0.1, 0, 0, 0)},
            "bold": {"a": ratios(-0.9, -0.5, 0, 0, 0, 0), "b": ratios(0.7, 0.3, 0.2, 0.1, 0.1, 0.1)},
        },
    )
    choice = choose(inner)
    assert choice.candidate == "steady"  # -0.2 on average, against -0.1
    assert choice.weights == {"steady": 0.1, "bold": 0.0}
    assert choice.criterion["steady"] == pytest.approx(-0.2)


def test_a_second_call_trains_nothing(result: NestedResult, shared: PreparedSet, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (out / "networks").rglob("model.safetensors")}
    again = run_nested(lambda _: shared, candidates(), out, folds=FOLDS, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in (out / "networks").rglob("model.safetensors")} == before
    assert again.by_candidate[REFERENCE] == result.by_candidate[REFERENCE]


def test_a_learning_curve_uses_fewer_training_patients(shared: PreparedSet, tmp_path: Path) -> None:
    few = Candidate(Variant("curve", "2 patients", patients=2), load_recipe(settings=SETTINGS))
    run_nested(lambda _: shared, [few], tmp_path, folds=FOLDS, device="cpu")
    assert [len(patients) for patients in trained_patients(tmp_path)] == [2, 2, 2]


def test_results_of_other_studies_and_impossible_folds_are_rejected(
    result: NestedResult, shared: PreparedSet, out: Path
) -> None:
    fewer = replace(shared, pairs=shared.pairs[1:])
    with pytest.raises(PreparedDataError, match="holds results of other studies; choose another folder"):
        run_nested(lambda _: fewer, candidates(), out, folds=FOLDS)
    with pytest.raises(RecipeError, match="at least 3 folds"):
        run_nested(lambda _: shared, candidates(), out, folds=2)
    with pytest.raises(RecipeError, match="splits by patient"):
        run_nested(lambda _: shared, candidates(Variant("split", "slice", ("split.unit=slice",))), out, folds=3)


def test_strata_follow_the_hot_volume_in_the_tumour(shared: PreparedSet) -> None:
    # 4 SUV in the contour of the first patient, 2 x 2 x 3 mm voxels: 16 of them are far below 10 mL
    assert stratum_of(shared, PATIENTS[0]) == STRATA[0]


def made(shift: float, *, patients: int = 12) -> NestedResult:
    """Return a result in which one candidate differs from the median lookup by `shift` in every patient."""
    names = [f"P{number:02d}" for number in range(patients)]

    def methods(number: int) -> dict[str, dict[str, float]]:
        lookup = {"mae_suv_body": 0.5 + number / 100, "psnr_db_body": 20.0, "tumour_suv_mean_error": -3.0}
        model = {"mae_suv_body": 0.5 + number / 100 + shift, "psnr_db_body": 20.0, "tumour_suv_mean_error": -3 - shift}
        return {**dict.fromkeys(BASELINE_NAMES, lookup), "model": model}

    measured = {name: methods(number) for number, name in enumerate(names)}
    return NestedResult(
        candidates=tuple(candidates()),
        fold_of={name: number % 3 for number, name in enumerate(names)},
        strata={name: STRATA[2] if number < 4 else STRATA[0] for number, name in enumerate(names)},
        choices=tuple(Choice(fold, REFERENCE, {REFERENCE: shift}, {REFERENCE: 0.1}, 8) for fold in range(3)),
        by_candidate={REFERENCE: measured},
    )


def test_the_table_marks_significant_differences_and_lost_strata(tmp_path: Path) -> None:
    better, worse = made(-0.1), made(0.2)
    of = methods_of(better)
    patients = list(better.fold_of)
    assert difference(of[REFERENCE], of["hu_median"], "mae_suv_body", patients).mean == pytest.approx(-0.1)
    sized = difference(of[REFERENCE], of["hu_median"], "tumour_suv_mean_error", patients)
    assert sized.mean == pytest.approx(-0.1)  # of the sizes: 2.9 and 3
    text = write_nested(better, tmp_path / "better", title="A table", note="Example data")[0].read_text()
    assert "**-0.100, -0.100 to -0.100**" in text
    assert "Example data" in text and "12 patients in 3 outer folds" in text
    assert "mean of 2 networks" in text
    text = write_nested(worse, tmp_path / "worse", title="A table")[0].read_text()
    assert "~~+0.200, +0.200 to +0.200~~" in text
    assert [sentence.split(":")[0] for sentence in sentences_of_strata(worse, methods_of(worse))] == [
        "no hot tumour, 8 patients",
        "large hot tumour, 4 patients",
    ]
    document = json.loads((tmp_path / "worse" / "nested.json").read_text(), parse_constant=pytest.fail)
    assert document["methods"][REFERENCE]["minus_hu_median"]["mae_suv_body"]["mean"] == pytest.approx(0.2)
    assert document["methods"][REFERENCE]["mean"]["ssim_body"]["mean"] is None
    with (tmp_path / "worse" / "patients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * 5
    assert rows[0]["ssim_body"] == ""


def test_the_shipped_variants_are_valid_settings() -> None:
    variants = read_variants(CHOICES)
    topics = {"learning curve", "loss", "SUV scale", "context", "stages", "supervision", "averaging", "flips"}
    assert topics | {"augmentation", "schedule", "width and depth"} <= {variant.topic for variant in variants}
    for variant in variants:
        tiny_recipe(*variant.settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected \[\[choice\]\] tables"),
        ('[[choice]]\ntopic = "loss"', r"expected \[\[choice\]\] tables"),
        ('[[choice]]\ntopic = "a"\nname = "x"\npatients = -1', "variant 'x': patients must be at least 0"),
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


def arguments(shared: PreparedSet, out: Path) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return [str(shared.root), "--out", str(out), "--folds", str(FOLDS), "--device", "cpu", *settings]


def test_the_script_of_a_bare_machine_prints_the_table(result: NestedResult, shared: PreparedSet, out: Path) -> None:
    command = [sys.executable, str(SCRIPT), *arguments(shared, out), "--only", "MSE"]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr
    assert f"| {CHOSEN} |" in completed.stdout
    assert np.ptp(imread(out / "nested.png")) > 0


def test_the_script_refuses_an_unknown_variant(
    shared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments(shared, tmp_path), "--only", "MES"])
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script extends it
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 2
    assert "'MES' is neither a topic nor a name of a variant" in capsys.readouterr().err


def test_the_commands_print_the_same_json(
    result: NestedResult, shared: PreparedSet, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", *arguments(shared, out), "--only", "MSE", "--json"]) == 0
    ablation = json.loads(capsys.readouterr().out)
    assert ablation["patients"] == len(PATIENTS)
    assert list(ablation["methods"]) == [CHOSEN, REFERENCE, "MSE", *BASELINE_NAMES]
    assert main(["study", *arguments(shared, out), "--stages", "1,2", "--json"]) == 0
    study = json.loads(capsys.readouterr().out)
    assert [choice["name"] for choice in study["candidates"]] == ["1 stage", "2 stages"]
    assert all(Path(path).is_file() for path in (*ablation["files"], *study["files"]))
    assert main(["ablate", *arguments(shared, out), "--set", "windows.pet_curve=linear"]) == 2
    assert "give one that was, or one folder of studies" in capsys.readouterr().err


def test_an_ablation_needs_known_names(shared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="neither a topic nor a name"):
        run_ablation(lambda _: shared, "quantitative", SETTINGS, CHOICES, tmp_path, only=["nothing"])
