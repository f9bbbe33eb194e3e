"""`cohort run` with the engine `local`: files, going on, failures, refusals."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pydicom import dcmread

from lib.cohort.engine import Progressing, Work
from lib.cohort.manifest import Manifest
from lib.cohort.outcome import Failure, Outcome
from lib.cohort.plan import plan_folder
from lib.cohort.run import MAX_LOSSES, run_cohort
from lib.cohort.settings import StudySettings
from lib.cohort.summary import summarize
from lib.errors import OutputError, UnlikeTrainingError
from tests.cli.runner import refused, run, run_json
from tests.cohort.conftest import STUDIES
from tests.cohort.files import files_of, leftovers
from tests.ct2pet_app.tiny_studies import change, in_thousands

Capture = pytest.CaptureFixture[str]


def test_files_equal_those_of_synthesize(
    capsys: Capture, studies: Path, model: Path, local_cohort: Path, tmp_path: Path
) -> None:
    single = tmp_path / "single"
    done = run_json(
        capsys, "synthesize", studies / "PHANTOM_0001" / "CT", "--model", model, "--out", single, "--format", "dicom"
    )
    series = local_cohort / "series" / done["series_instance_uid"]
    assert {path.name: path.read_bytes() for path in series.iterdir()} == {
        path.name: path.read_bytes() for path in single.iterdir()
    }
    assert len(list((local_cohort / "series").iterdir())) == STUDIES and not leftovers(local_cohort)


def test_the_same_command_does_nothing_twice(capsys: Capture, studies: Path, model: Path, local_cohort: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (local_cohort / "series").rglob("*.dcm")}
    again = run_json(capsys, "cohort", "run", studies, "--model", model, "--out", local_cohort)
    assert (again["before"], again["done"], again["counts"]["done"]) == (STUDIES, 0, STUDIES)
    assert before == {path: path.stat().st_mtime_ns for path in (local_cohort / "series").rglob("*.dcm")}


def test_a_removed_series_is_made_again(
    capsys: Capture, studies: Path, model: Path, local_cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(local_cohort, out)
    shutil.rmtree(min((out / "series").iterdir()))
    again = run_json(capsys, "cohort", "run", studies, "--model", model, "--out", out)
    assert (again["before"], again["done"]) == (STUDIES - 1, 1) and files_of(out) == files_of(local_cohort)


def test_a_limit_takes_the_first_cts_and_a_higher_one_goes_on(
    capsys: Capture, studies: Path, model: Path, tmp_path: Path
) -> None:
    command = ("cohort", "run", studies, "--model", model, "--out", tmp_path)
    assert run_json(capsys, *command, "--limit", "2")["counts"]["done"] == 2
    more = run_json(capsys, *command, "--limit", "3")
    assert (more["before"], more["done"]) == (2, 1)


@pytest.mark.parametrize(
    ("where", "expected"),
    [("Modality=CT,PatientID=PHANTOM_0002", 1), ("PatientID=PHANTOM_000?", STUDIES), ("PatientID=*_0006", 1)],
)
def test_where_selects_by_attributes(
    capsys: Capture, studies: Path, model: Path, tmp_path: Path, where: str, expected: int
) -> None:
    out = run_json(capsys, "cohort", "run", studies, "--model", model, "--out", tmp_path, "--where", where)
    assert out["counts"]["done"] == expected


def damaged(studies: Path, folder: Path) -> Path:
    """Return a copy of two studies, of which the first has a CT whose values are not HU."""
    change(studies / "PHANTOM_0001" / "CT", in_thousands, folder / "PHANTOM_0001" / "CT")
    shutil.copytree(studies / "PHANTOM_0002", folder / "PHANTOM_0002")
    return folder


def test_a_failing_study_is_tried_again_and_does_not_stop_the_others(
    capsys: Capture, studies: Path, model: Path, tmp_path: Path
) -> None:
    source, out = damaged(studies, tmp_path / "studies"), tmp_path / "out"
    done = run_json(capsys, "cohort", "run", source, "--model", model, "--out", out, "--retries", "2")
    assert (done["counts"]["done"], done["counts"]["failed"], done["retried"]) == (1, 1, 2)
    (failure,) = done["failures"]
    assert (failure["step"], failure["code"], failure["count"]) == ("read", "invalid_image_file", 1)
    shutil.rmtree(source / "PHANTOM_0001")
    shutil.copytree(studies / "PHANTOM_0001", source / "PHANTOM_0001")
    mended = run_json(capsys, "cohort", "run", source, "--model", model, "--out", out)
    assert (mended["before"], mended["done"], mended["failures"]) == (1, 1, [])


def test_the_exit_code_says_that_nothing_succeeded(capsys: Capture, studies: Path, model: Path, tmp_path: Path) -> None:
    source = damaged(studies, tmp_path / "studies")
    shutil.rmtree(source / "PHANTOM_0002")
    code, out, _ = run(capsys, "cohort", "run", source, "--model", model, "--out", tmp_path / "out", "--json")
    assert code == 1 and json.loads(out)["counts"]["failed"] == 1


def failing(work: Work) -> Progressing:
    """Take studies, and fail each as a full disk does."""
    while not work.stopped() and (case := work.take()) is not None:
        yield Outcome(case.ct_uid, Failure.of(OutputError("the disk is full"), "write")), 1


def test_a_full_disk_ends_the_run_and_leaves_the_rest_pending(
    studies: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.cohort.run.MAX_FAILURES_IN_A_ROW", 3)
    with pytest.raises(OutputError, match=r"the disk is full.*same command again"):
        run_cohort(plan_folder(studies, {}), [model], StudySettings(tmp_path), failing, engine_name="failing")
    with Manifest.open(tmp_path) as manifest:
        assert manifest.counts()["pending"] == STUDIES


def test_a_study_that_loses_its_worker_again_and_again_counts_as_failed(
    studies: Path, model: Path, tmp_path: Path
) -> None:
    def losing(work: Work) -> Progressing:
        """Take studies, and lose each with its worker."""
        while (case := work.take()) is not None:
            yield Outcome(case.ct_uid, None), 1

    run = run_cohort(plan_folder(studies, {}), [model], StudySettings(tmp_path), losing, engine_name="losing")
    assert (run.counts["failed"], run.lost) == (STUDIES, STUDIES * MAX_LOSSES)
    (failure,) = summarize(tmp_path).failures
    assert (failure.code, failure.count) == ("worker_lost", STUDIES)


def test_an_unlike_ct_is_refused_once() -> None:
    error = UnlikeTrainingError("unlike", reasons=[], score=1.0, limit=0.5)
    assert Failure.of(error, "synthesise").is_final and not Failure.of(OutputError("full"), "write").is_final


def test_a_ct_that_cannot_be_used_is_listed_with_its_reason(
    capsys: Capture, studies: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(studies / "PHANTOM_0001", tmp_path / "studies" / "1")
    shutil.copytree(studies / "PHANTOM_0002" / "CT", tmp_path / "studies" / "2")
    sorted((tmp_path / "studies" / "2").iterdir())[2].unlink()  # a gap
    out = run_json(capsys, "cohort", "run", tmp_path / "studies", "--model", model, "--out", tmp_path / "out")
    assert (out["counts"]["done"], out["counts"]["unusable"], out["counts"]["failed"]) == (1, 1, 0)
    assert out["failures"][0]["code"] == "series_not_usable" and out["failures"][0]["example"]


def test_other_weights_or_settings_need_another_folder(
    capsys: Capture, studies: Path, model: Path, other_model: Path, local_cohort: Path
) -> None:
    command = ("cohort", "run", studies, "--out", local_cohort)
    assert "weights" in refused(capsys, *command, "--model", other_model)
    assert "runtime auto (now eager)" in refused(capsys, *command, "--model", model, "--runtime", "eager")


def test_two_runs_of_one_cohort_are_refused(capsys: Capture, studies: Path, model: Path, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".cohort.lock"):
        error = refused(capsys, "cohort", "run", studies, "--model", model, "--out", tmp_path)
    assert "another process is running this cohort" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "dask"], "expected local, ray"),
        (["--store"], "needs the address of a PACS"),
        (["--where", "Modality=MR"], "expected CT"),
        (["--where", "Colour=red"], "not the keyword of a DICOM attribute"),
        (["--where", "BodyPartExamined"], "expected Keyword=value"),
        (["--where", "PatientID=nobody"], "holds no CT with PatientID=nobody"),
    ],
)
def test_invalid_options_are_refused_in_one_line(
    capsys: Capture, studies: Path, model: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    assert message in refused(capsys, "cohort", "run", studies, "--model", model, "--out", tmp_path, *options)


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_without_a_cohort_is_refused(capsys: Capture, tmp_path: Path, command: str) -> None:
    assert "name the output folder of a cohort" in refused(capsys, "cohort", command, tmp_path)
    (tmp_path / "cohort.sqlite").write_bytes(b"no database" * 100)
    assert "is damaged" in refused(capsys, "cohort", command, tmp_path)


def test_the_record_names_weights_attempts_durations_and_worker(local_cohort: Path) -> None:
    with sqlite3.connect(local_cohort / "cohort.sqlite") as record:
        rows = record.execute("SELECT state, attempts, losses, weights, seconds, worker, result FROM study").fetchall()
    assert len(rows) == STUDIES
    for state, attempts, losses, weights, seconds, worker, result in rows:
        assert (state, attempts, losses, len(weights), ":" in worker) == ("done", 1, 0, 64, True)
        assert set(json.loads(seconds)) == {"read", "synthesise", "write", "compare"}
        found: dict[str, Any] = json.loads(result)
        first = dcmread(local_cohort / found["output"] / "0001.dcm")
        assert (found["series_uid"], found["slices"]) == (first.SeriesInstanceUID, first.NumberOfSlices)
        assert sum(found["histogram"]) == first.NumberOfSlices * first.Rows * first.Columns
