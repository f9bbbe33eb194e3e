"""scripts/cross-validate-konfai: groups of folds, equal operations, the table, and a full run on small arrays."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from lib.errors import PreparedDataError
from lib.experiments.nested.measure import MEASURED
from lib.metrics.baselines import BASELINE_NAMES
from lib.pairing.prepared import PreparedSet
from scripts.cross_validate_konfai import arguments
from scripts.konfai.cross_validation import CrossValidation, Settings, write_table
from tests.conftest import REPOSITORY, REQUIRED, missing
from tests.learning.conftest import PATIENTS, make_prepared, tiny_recipe

VALUES = dict.fromkeys(MEASURED, 0.5)
RECIPE = tiny_recipe("stages=1")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return make_prepared(tmp_path_factory.mktemp("arrays"), RECIPE.preparation)


def cross_validation(prepared: PreparedSet, out: Path, *, program: Path = Path("konfai")) -> CrossValidation:
    settings = Settings(folds=4, together=3, minutes=0.02, threads=1)
    return CrossValidation(prepared, RECIPE, settings, program=program, out=out, report=lambda message: None)


def test_folds_are_left_out_together() -> None:
    assert Settings(5, 2, 15.0, 1).groups() == [range(2), range(2, 4), range(4, 5)]


def test_the_network_has_the_operations_of_our_ensemble(prepared: PreparedSet, tmp_path: Path) -> None:
    # three networks of 4 channels; with base channels n, convolutions cost about n^2: 4 sqrt(3) = 6.9
    assert cross_validation(prepared, tmp_path).channels == [5, 7, 14, 28]


def test_arrays_of_another_recipe_are_refused(prepared: PreparedSet, tmp_path: Path) -> None:
    other = tiny_recipe("stages=1", "pixel_mm=3")
    with pytest.raises(PreparedDataError, match="prepared with another recipe; prepare them again"):
        CrossValidation(prepared, other, Settings(4, 2, 1, 1), program=Path("k"), out=tmp_path, report=print)


def write_ours(path: Path, patients: tuple[str, ...], *, mae: float) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "fold", "stratum", "method", *MEASURED])
        for patient in patients:
            writer.writerow([patient, 1, "no hot tumour", "reference", mae, *[0.5] * (len(MEASURED) - 1)])
            writer.writerow([patient, 1, "no hot tumour", "zero", *[0.9] * len(MEASURED)])
    return path


def test_the_table_compares_the_two_patient_by_patient(tmp_path: Path) -> None:
    measured = {patient: dict.fromkeys(("KonfAI", *BASELINE_NAMES), VALUES) for patient in PATIENTS}
    ours = write_ours(tmp_path / "ours.csv", PATIENTS, mae=0.4)
    text = write_table(measured, tmp_path, ours=ours, title="KonfAI under the folds").read_text()
    assert text.startswith("KonfAI under the folds.\n")
    row = next(line for line in text.split("Difference from KonfAI:")[1].splitlines() if line.startswith("| ct2pet"))
    assert "0.400 (0.400 to 0.400)<br>**-0.100, -0.100 to -0.100**" in row
    rows = list(csv.DictReader((tmp_path / "patients.csv").read_text().splitlines()))
    assert {(row["patient_id"], row["method"]) for row in rows} >= {("P0", "ct2pet"), ("P0", "KonfAI")}
    with pytest.raises(PreparedDataError, match="other patients than the arrays"):
        write_table(measured, tmp_path, ours=write_ours(ours, PATIENTS[:3], mae=0.4), title="")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--minutes", "0"), "--minutes must be above 0 and --threads at least 1, found 0 and 1"),
        (("--together", "10"), "--together from 1 to below it, found 10 and 10"),
        (("--group", "6"), "--group must be from 1 to 5, found 6"),
        (("--patients", "none.csv"), "none.csv: no such file"),
    ],
)
def test_an_invalid_command_line_is_rejected(
    options: tuple[str, ...],
    message: str,
    prepared: PreparedSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["cross-validate-konfai", str(prepared.root), "--out", "out", *options])
    with pytest.raises(SystemExit) as rejected:
        arguments()
    assert rejected.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_every_patient_is_measured_out_of_fold_and_no_training_is_repeated(
    prepared: PreparedSet, tmp_path: Path
) -> None:
    program = Path(os.environ.get("CT2PET_KONFAI") or REPOSITORY / ".venv-konfai") / "bin" / "konfai"
    if not program.is_file() and "konfai" not in REQUIRED:
        missing("konfai", "no environment of KonfAI; scripts/cross-validate-konfai creates it")
    measured = cross_validation(prepared, tmp_path, program=program).measure()
    assert set(measured) == set(PATIENTS)
    assert all(set(of) == {"KonfAI", *BASELINE_NAMES} for of in measured.values())
    groups = [json.loads((tmp_path / f"group-{number}.json").read_text()) for number in (1, 2)]
    assert not set(groups[0]["patients"]) & set(groups[1]["patients"])
    assert [group["training"]["cases"] for group in groups] == [
        len(PATIENTS) - len(group["patients"]) for group in groups
    ]
    assert cross_validation(prepared, tmp_path, program=Path("no-such-program")).measure() == measured
