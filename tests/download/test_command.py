"""`main.py download`: its output, and a real selection downloaded from a server on loopback."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.download.cohort import Selection, parse_cohort, select_cohort
from main import main
from tests.download.idc_server import BUCKET, CuttingProxy, Server

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = "idc:rider_lung_pet_ct"  # its first patient has 64 CT and 47 PET images, 35 MB


@pytest.fixture(scope="module")
def on_server(s3: Server, tmp_path_factory: pytest.TempPathFactory) -> Selection:
    """The first patient of a real collection, with the archive's URLs, counts and sizes; the files contain zeros."""
    selection = select_cohort(parse_cohort(SMALL), patients=1)
    for number, series in enumerate(selection.series):
        folder = tmp_path_factory.mktemp(f"series{number}")
        each = series.size_bytes // series.images
        for image in range(series.images):
            size = each if image else series.size_bytes - each * (series.images - 1)
            (folder / f"{image:03d}.dcm").write_bytes(bytes(size))
        s3.put(folder, series.url.removeprefix(f"s3://{BUCKET}/").removesuffix("/*"))
    return selection


def test_a_dry_run_lists_the_selection(idc_index: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "paper", "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    captured = capsys.readouterr().out
    assert "paper: 9 patients with CT and PET in the Imaging Data Commons" in captured
    assert "12,930 images, 6.7 GB" in captured
    assert "selected: 9 patients, 18 series, 5,704 images, 1.82 GB" in captured
    assert "licence: CC BY 4.0; source: https://doi.org/10.7937/tcia.2020.nnc2-0461" in captured
    assert "4 of 9 PETs have a CT in their own study" in captured
    assert captured.count("PET WB Corrected") == 9 and "ALPHA" not in captured
    assert not (tmp_path / "new").exists()


def test_dry_run_as_json_has_the_pairs(idc_index: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "lung", "--patients", "3", "--out", str(tmp_path), "--dry-run", "--json"]) == 0
    captured = json.loads(capsys.readouterr().out)
    assert list(captured) == ["cohort", "index_version", "archive", "pairs", "left_out"]
    assert [(pair["ct"]["modality"], pair["pet"]["modality"]) for pair in captured["pairs"]] == [("CT", "PT")] * 3


def test_without_a_terminal_it_requires_yes(
    s3: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["download", "paper", "--out", str(tmp_path / "new")]) == 2
    assert "no terminal to confirm the download; use --yes" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("answer", "message"), [("n", "nothing downloaded"), ("", "nothing downloaded"), ("y", "2 series downloaded")]
)
def test_on_a_terminal_confirmation_is_required(
    s3: Server, on_server: Selection, tmp_path: Path, answer: str, message: str
) -> None:
    terminal, inner = pty.openpty()
    command = [sys.executable, "main.py", "download", SMALL, "--patients", "1", "--out", str(tmp_path / "new")]
    process = subprocess.Popen(
        [*command, "--endpoint-url", s3.url],
        cwd=REPOSITORY,
        stdin=inner,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(terminal, f"{answer}\n".encode())
    output = process.communicate(timeout=60)[0]
    os.close(terminal)
    os.close(inner)
    assert process.returncode == 0 and "Continue? [y/N]" in output and message in output
    assert (tmp_path / "new").exists() == (answer == "y")


def test_a_real_selection_is_downloaded_completely(
    s3: Server, on_server: Selection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["download", SMALL, "--patients", "1", "--out", str(tmp_path), "--endpoint-url", s3.url, "--yes"]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"out": str(tmp_path), "fetched": 2, "reused": 0, "failed": []}
    assert "licence: CC BY 3.0" in captured.err
    patient = tmp_path / on_server.patients[0]
    assert len(list(patient.rglob("*.dcm"))) == on_server.images == 111
    assert "CC BY 3.0" in (tmp_path / "ATTRIBUTION.md").read_text()
    assert main(command[:-1]) == 0  # nothing to download: no prompt
    assert "0 series downloaded, 2 already present, 0 failed" in capsys.readouterr().out


def test_after_a_kill_the_same_command_continues(
    s3: Server, on_server: Selection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["download", SMALL, "--patients", "1", "--out", str(tmp_path), "--yes", "--endpoint-url"]
    with CuttingProxy(s3, cut_after_bytes=20_000_000, stalls=True) as proxy:
        process = subprocess.Popen(
            [sys.executable, "main.py", *command, proxy.url], cwd=REPOSITORY, start_new_session=True
        )
        for _ in range(600):
            if proxy.is_cut or process.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dcm")}
    assert 0 < len(kept) < 64
    with CuttingProxy(s3, cut_after_bytes=10**9) as proxy:
        assert main([*command, proxy.url]) == 0
    assert "2 series downloaded, 0 already present, 0 failed" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("*.dcm*"))) == 111  # nothing torn is left
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    kept_bytes = sum(path.stat().st_size for path in kept)
    assert proxy.carried_bytes < on_server.size_bytes - kept_bytes + 300_000  # plus HTTP headers


def test_failed_series_are_reported_and_exit_with_1(
    s3: Server, on_server: Selection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["download", SMALL, "--patients", "2", "--out", str(tmp_path), "--yes", "--endpoint-url", s3.url]
    assert main(command) == 1  # the server holds the first patient only
    captured = capsys.readouterr()
    assert "2 series downloaded, 0 already present, 2 failed" in captured.out
    assert captured.err.count("failed: RIDER-1009463841") == 2 and "no object found" in captured.err


@pytest.mark.parametrize("package", ["idc_index_data", "pyarrow"])
def test_missing_extra_is_reported_with_install_command(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["download", "paper", "--out", str(tmp_path)]) == 2
    assert "not installed: pip install -r requirements-download.txt" in capsys.readouterr().err
