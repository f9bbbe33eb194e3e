"""`python main.py`: tables and JSON on stdout, the rest on stderr, exit codes 0, 1 and 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lib
from tests.cli.runner import refused, run, run_json
from tests.dicom.builders import CT, PET, write_series

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT2PET_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CT2PET_DEBUG", raising=False)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    write_series(tmp_path / "ct", SeriesDescription="WB [ac] 3mm")
    write_series(tmp_path / "pet", modality="PT")
    return tmp_path


def test_help_names_the_first_steps(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "scan STUDIES" in out and "not for diagnosis" in " ".join(out.split())


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"ct2pet {lib.__version__}\n", "")


def test_the_help_of_every_command_loads_none_of_the_large_libraries() -> None:
    program = "import sys, main; main.main(['--help']); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "lib.cli.commands.synthesize" in done.stderr.split()
    assert not set(done.stderr.split()) & {"torch", "monai", "SimpleITK", "pydicom", "monailabel"}


def test_scan_prints_a_table(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "scan", studies)
    assert (code, err) == (0, "")
    assert "WB [ac] 3mm" in out  # brackets are text, not markup
    assert "BQML -> SUVbw" in out and "6 x 8" in out and "3.00 x 2.00 x 1.50" in out
    assert "2 series in 1 studies, 2 usable; 0 other files" in out


def test_scan_prints_json(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (studies / "notes.txt").write_text("junk")
    result = run_json(capsys, "scan", studies)
    assert [line["series_instance_uid"] for line in result["series"]] == [CT, PET]
    assert result["series"][0]["usable"] is True
    assert result["series"][0]["pairing"] == f"paired with PET {PET}"
    assert result["skipped"] == [{"path": str(studies / "notes.txt"), "reason": "notes.txt: not a DICOM file"}]


def test_scan_says_why_a_series_is_unusable(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(studies / "nac", modality="PT", SeriesInstanceUID="5.5", CorrectedImage=["DECY"])
    code, out, _ = run(capsys, "scan", studies)
    assert code == 0
    assert "no: not attenuation-corrected" in out


def test_pair_prints_the_records_of_the_contract(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = run_json(capsys, "pair", studies)
    assert record["shift_mm"] == [None, None, None]  # 6 x 8 pixels of noise
    contract = {
        "patient_id": "P1",
        "study_instance_uid": "1.2.3.1",
        "ct_series_instance_uid": CT,
        "pet_series_instance_uid": PET,
        "ct_slices": 5,
        "pet_slices": 5,
        "slice_pairs": 5,
        "max_offset_mm": 0.0,
    }
    assert {name: record[name] for name in contract} == contract
    assert record["ct_study_instance_uid"] == "1.2.3.1" and record["registered"] is False
    assert record["paired_because"] == "the only CT that overlaps the PET; it covers 100% of it"
    assert record["ct_minutes_after_pet"] is None and record["translation_mm"] is None


def test_pair_takes_a_tolerance_and_a_ct(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(
        studies / "shifted", SeriesInstanceUID="5.5", vary=lambda k: {"ImagePositionPatient": [-10, -20, 101 + 3 * k]}
    )
    (record,) = run_json(capsys, "pair", studies, "--ct", "5.5", "--tolerance-mm", "0.9")
    assert (record["ct_series_instance_uid"], record["slice_pairs"], record["max_offset_mm"]) == ("5.5", 0, 1.0)
    (record,) = run_json(capsys, "pair", studies, "--ct", "5.5", "--tolerance-mm", "1.0")
    assert record["slice_pairs"] == 5


def test_pair_prints_a_table_and_unpaired_series(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(studies / "lone", SeriesInstanceUID="5.5", StudyInstanceUID="5")
    code, out, err = run(capsys, "pair", studies)
    assert (code, err) == (0, "")
    assert "not paired: P1 CT 5.5: no PET in the same study" in out
    assert "1 pairs, 5 slice pairs within 0.2 mm" in out


def test_in_json_mode_unpaired_series_are_printed_to_stderr(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(studies / "lone", SeriesInstanceUID="5.5", StudyInstanceUID="5")
    code, out, err = run(capsys, "pair", studies, "--json")
    assert (code, len(json.loads(out))) == (0, 1)
    assert "not paired: P1 CT 5.5: no PET in the same study" in err


@pytest.mark.parametrize("command", ["scan", "pair"])
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "nowhere: no such folder; give the folder that holds the DICOM studies"),
        ("empty", "empty: no DICOM series found; give the folder that holds the DICOM studies"),
        ("file", "file: is a file, not a folder; give the folder that holds the DICOM studies"),
    ],
)
def test_invalid_input_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, folder: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert refused(capsys, command, tmp_path / folder, "--json") == f"error: {tmp_path / message}\n"


@pytest.mark.parametrize(
    "arguments", [["scan"], ["scan", "x", "--nonsense"], ["nonsense"], ["pair", "x", "--tolerance-mm", "-1"]]
)
def test_invalid_arguments_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "Usage" in err


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a defect")


def test_an_internal_error_is_one_line_and_exit_1(
    studies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.pairing.scan_summary.series_lines", broken)
    code, out, err = run(capsys, "scan", studies)
    assert (code, out) == (1, "")
    assert err == "error: unexpected ZeroDivisionError: a defect; for a traceback, put --debug before the command\n"


@pytest.mark.parametrize("source", ["option", "environment"])
def test_debug_logs_a_traceback(
    studies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr("lib.pairing.scan_summary.series_lines", broken)
    if source == "environment":
        monkeypatch.setenv("CT2PET_DEBUG", "1")
    code, _, err = run(capsys, *(["--debug"] if source == "option" else []), "scan", studies)
    assert code == 1
    assert "Traceback" in err


def test_a_cache_that_cannot_be_written_is_not_required(
    studies: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("CT2PET_CACHE", str(tmp_path / "a file" / "cache"))
    assert len(run_json(capsys, "pair", studies)) == 1


def test_the_command_runs_from_another_folder_without_torch(studies: Path, tmp_path: Path) -> None:
    pair = ("pair", str(studies), "--no-shift", "--json")  # to measure a shift loads SimpleITK
    command = [sys.executable, "-X", "importtime", str(REPOSITORY / "main.py"), *pair]
    environment = {**os.environ, "CT2PET_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)) == 1
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "pydicom" in loaded
    assert not loaded & {"torch", "monai", "SimpleITK", "monailabel"}


# --- the real studies ---


def test_the_sarcoma_studies_pair_as_counted_independently(
    sts_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = {record["patient_id"]: record for record in run_json(capsys, "pair", sts_folder, "--no-shift")}
    assert len(records) == 36
    assert sum(record["slice_pairs"] for record in records.values()) == 2166
    assert (records["STS_031"]["slice_pairs"], records["STS_031"]["max_offset_mm"]) == (
        0,
        pytest.approx(1.59, abs=0.01),
    )
    assert (records["STS_019"]["slice_pairs"], records["STS_019"]["pet_slices"]) == (45, 47)
    assert (records["STS_041"]["ct_slices"], records["STS_041"]["pet_slices"]) == (53, 52)


def test_scan_explains_the_ct_without_a_pet(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = run_json(capsys, "scan", shared_data / "ct_only")["series"]
    assert (line["usable"], line["pairing"]) == (True, "not paired: no PET in the same study")


def test_a_pet_given_alone_has_no_ct(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "pair", shared_data / "sts_raw", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert "no CT in the same study" in err


def test_given_the_parent_folder_the_raw_pet_pairs_with_the_ct_elsewhere(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run_json(capsys, "scan", shared_data)["series"]
    first = {(line["description"]): line for line in lines if line["patient_id"] == "STS_001"}
    raw, converted = first["PET AC"], first["IBSI_1_STS_001_PET_image"]
    ct = first["IBSI_1_STS_001_CT_image"]
    assert raw["pairing"] == f"paired with CT {ct['series_instance_uid']}"
    assert converted["pairing"] == (
        f"not paired: another PET of the study is used ({raw['series_instance_uid']}): "
        "it has more slices (267 instead of 59)"
    )
