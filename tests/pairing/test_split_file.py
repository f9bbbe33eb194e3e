"""Each patient is assigned to a side once, in a file that users may edit and that is never lost or recreated."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.errors import OutputError, SplitFileError
from lib.pairing.split import Side, Split
from lib.pairing.split_file import COLUMNS, TRAINED_ON, assign_new, read_split_file
from lib.types import Series, SeriesPair
from tests.conftest import REPOSITORY

# By their places on the circle (tests/pairing/test_split.py) under the default shares: test below 0.2, validation 0.3.
SIDES: dict[str, Side] = {"P0": "train", "P3": "test", "P6": "validation"}


def pair_of(patient: str) -> SeriesPair:
    ct, pet = (
        Series(f"1.{patient}.{number}", f"1.{patient}", patient, modality, "1.9", "", (Path("x"),))
        for number, modality in ((1, "CT"), (2, "PT"))
    )
    return SeriesPair(ct, pet)


def assigned(path: Path, *patients: str, split: Split = Split()) -> dict[str, Side]:
    assignments = assign_new(path, [pair_of(patient) for patient in patients], split)
    return {patient: one.side for patient, one in assignments.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "split.csv"


def test_a_new_patient_gets_the_side_of_the_hash(path: Path) -> None:
    assert assigned(path, *SIDES) == SIDES
    assert {patient: one.side for patient, one in read_split_file(path).items()} == SIDES


def test_a_missing_file_has_no_patients_and_is_not_created_by_reading(path: Path) -> None:
    assert read_split_file(path) == {}
    assert not path.exists()


def test_the_columns_of_the_file(path: Path) -> None:
    assign_new(path, [pair_of("PATIENT_1")], Split(validation=0.25, test=0.5, salt="pepper", offset=0.125))
    (line,) = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    assert list(line) == list(COLUMNS)
    assert (line["patient_id"], line["ct_series_instance_uid"], line["pet_series_instance_uid"]) == (
        "PATIENT_1",
        "1.PATIENT_1.1",
        "1.PATIENT_1.2",
    )
    assert line["assigned_utc"].endswith("+00:00")
    assert line["decided_by"] == "hash: validation 0.25 test 0.5 offset 0.125 salt pepper"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    steps=st.lists(
        st.tuples(
            st.sets(st.text(min_size=0, max_size=6), max_size=5),
            st.floats(0, 0.5),
            st.floats(0, 0.49),
            st.text(max_size=3),
            st.floats(0, 0.99),
        ),
        max_size=4,
    )
)
def test_no_patient_ever_changes_side(tmp_path: Path, steps: list[tuple[set[str], float, float, str, float]]) -> None:
    """Patients of any ID join, under other shares, salts and offsets each time."""
    path = tmp_path / "split.csv"
    path.unlink(missing_ok=True)
    before: dict[str, Side] = {}
    for patients, validation, test, salt, offset in steps:
        split = Split(validation=validation, test=test, salt=salt, offset=offset)
        after = assigned(path, *patients, split=split)
        assert before.items() <= after.items()
        assert set(after) == set(before) | patients
        assert {patient: after[patient] for patient in patients - set(before)} == {
            patient: split.side_of_patient(patient) for patient in patients - set(before)
        }
        before = after


@pytest.mark.parametrize(
    "patient", ["0012", "1E5", "MAR-1", "=1+1", "+1", "-1", "@x", "'quoted", "", 'a"b,c;d', "a\nb", "Ä"]
)
def test_a_patient_id_is_read_back_unchanged(path: Path, patient: str) -> None:
    assigned(path, patient)
    assert list(read_split_file(path)) == [patient]


@pytest.mark.parametrize("patient", ["0012", "1E5", "MAR-1", "=1+1", "+1", "-1", "@x"])
def test_a_spreadsheet_takes_an_id_for_text(path: Path, patient: str) -> None:
    assigned(path, patient)
    assert f"\n'{patient}," in path.read_text(encoding="utf-8-sig")


def test_a_split_by_slice_assigns_no_patients(path: Path) -> None:
    assert assigned(path, "P0", split=Split(unit="slice", validation=0.0)) == {}
    assert not path.exists()


def test_a_patient_used_for_training_stays_in_training(path: Path) -> None:
    assignments = assign_new(path, map(pair_of, SIDES), Split(), was_trained_on=lambda patient: patient == "P3")
    assert (assignments["P3"].side, assignments["P3"].decided_by) == ("train", TRAINED_ON)
    assert assignments["P6"].side == "validation"


def test_an_edited_side_is_kept(path: Path) -> None:
    assigned(path, *SIDES)
    path.write_bytes(path.read_bytes().replace(b"'P0,train", b"'P0,validation"))
    assert assigned(path, "P0", "P1")["P0"] == "validation"


def test_a_file_that_a_german_spreadsheet_saved_is_read(path: Path) -> None:
    path.write_text("patient_id;side\r\nP0;test\r\n;\r\n", encoding="utf-8-sig")
    assert assigned(path, "P0", "P3") == {"P0": "test", "P3": "test"}


DAMAGED = {
    "empty": (b"", "line 1: columns none; expected patient_id, side"),
    "no text": (b"\xff\xfe\x00", "cannot be read"),
    "another file": (b"name,age\nx,1\n", "line 1: columns name, age; expected patient_id, side"),
    "an unknown column": (b"patient_id,side,fold\nx,train,1\n", "columns patient_id, side, fold"),
    "an unknown side": (b"patient_id,side\nx,holdout\n", "line 2: side 'holdout', expected train, validation, test"),
    "cut off": (b"patient_id,side,decided_by\nx,train,a\ny,te", "line 3: 2 values, expected 3"),
    "cut off in the side": (b"patient_id,side\nx,train\ny,te", "line 3: side 'te'"),
    "cut off in a quote": (b'patient_id,side\n"x', "unexpected end of data"),
    "twice": (b"patient_id,side\nx,train\nx,test\n", "line 3: patient x is listed twice"),
    "no patient": (b"patient_id,side\n,train\n", "line 2: patient_id is empty"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_an_error_and_is_never_replaced(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(SplitFileError, match=r"split\.csv") as reported:
        assigned(path, "P0")
    assert message in str(reported.value)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OutputError, match=r"cannot be written .* is unchanged; free space"):
        assigned(path, "P0")


def test_a_lock_that_cannot_be_held(path: Path) -> None:
    (path.parent / ".split.csv.lock").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        assigned(path, "P0")


def test_a_file_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", without_locks)
    with pytest.raises(OutputError, match=r"cannot be written or locked .*Operation not supported.*; choose another"):
        assigned(path, "P0")


def without_locks(*given: object) -> None:
    raise OSError(95, "Operation not supported")


def test_a_lock_that_another_process_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.pairing.split_file.LOCK_TIMEOUT_S", 0.1)
    with (
        FileLock(path.parent / ".split.csv.lock", is_singleton=False),
        pytest.raises(OutputError, match="another process has held the lock"),
    ):
        assigned(path, "P0")
    assert assigned(path, "P0") == {"P0": "train"}


ASSIGN = """
import os, sys
from pathlib import Path
from lib.pairing import split_file
from lib.pairing.split import Split
from tests.pairing.test_split_file import pair_of
path, die, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if die == "die":
    replace = Path.replace
    Path.replace = lambda *_: os.kill(os.getpid(), 9)
for number in range(first, last):
    # shares of its own, so that two processes would decide otherwise about the same patient
    split_file.assign_new(path, [pair_of(f"P_{number}")], Split(test=0.2, validation=0.1, salt=str(first)))
    known = split_file.read_split_file(path)
    print(f"P_{number}", known[f"P_{number}"].side, flush=True)
"""


def run(path: Path, die: str, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASSIGN, str(path), die, str(first), str(last)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_a_process_killed_before_replacing_the_file_loses_nothing(path: Path) -> None:
    before = assigned(path, *SIDES)
    content = path.read_bytes()
    process = run(path, "die", 0, 1)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == content
    assert before.items() <= assigned(path, "P_0", *SIDES).items()  # and the lock is free
    assert sorted(one.name for one in path.parent.iterdir()) == [".split.csv.lock", "split.csv"]


def test_two_processes_that_assign_at_once_agree(path: Path) -> None:
    processes = [run(path, "live", 0, 60), run(path, "live", 1, 61)]
    reported = [
        dict(line.split() for line in process.communicate(timeout=120)[0].splitlines()) for process in processes
    ]
    assert [process.returncode for process in processes] == [0, 0]
    known = {patient: one.side for patient, one in read_split_file(path).items()}
    assert set(known) == {f"P_{number}" for number in range(61)}
    assert reported[0].items() <= known.items() and reported[1].items() <= known.items()
