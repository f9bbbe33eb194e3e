"""The tutorial, typed from top to bottom, with phantoms of few slices."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import main
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from tests.documents.commands import ROOT, TUTORIAL, commands_of
from tests.server.processes import free_port, stop_process

READY = "until curl -so /dev/null http://127.0.0.1:8000/info/; do kill -0 %1; sleep 0.3; done"


@pytest.mark.server
@pytest.mark.slow
def test_the_tutorial_works_as_it_is_typed(
    tmp_path: Path,
    require_program: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    require_program("curl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CT2PET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CURL_HOME", str(tmp_path))
    (tmp_path / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    shell = ["set -eu"]
    for command in (one.text for one in commands_of(TUTORIAL)):
        if command.startswith("python main.py "):  # in this process, which has imported torch
            small = ["--slices", "6"] if "phantom" in command else []
            assert main.main([*shlex.split(command)[2:], *small]) == 0, command + capfd.readouterr().err
        else:
            shell += [command, *([READY] if command.endswith("&") else [])]
    out, _ = capfd.readouterr()
    assert "BQML -> SUVbw" in out and "median SUV per HU" in out
    assert len(list((tmp_path / "synthetic").glob("*.dcm"))) == 6
    assert (tmp_path / "report" / "report.html").is_file()
    run_with_server("\n".join(shell), free_port(), log=tmp_path / "shell.log")
    first, served = (read_volume_file(tmp_path / name, unit=Unit.SUV_BW) for name in ("pet.nrrd", "served.nrrd"))
    assert first.geometry.shape == served.geometry.shape == (6, 256, 256)


def run_with_server(script: str, port: int, *, log: Path) -> None:
    """Run a script of the repository's folder, and end what it leaves running."""
    script = re.sub(r"(?m)(^|(?<= ))(?=scripts/|\.venv/)", f"{ROOT}/", script)
    script = script.replace(":8000", f":{port}").replace("serve studies", f"serve studies --port {port}")
    with log.open("wb") as file:
        shell = subprocess.Popen(["bash", "-c", script], stdout=file, stderr=file, start_new_session=True)
    try:
        assert shell.wait(timeout=300) == 0, f"{script}\n{log.read_text()[-3000:]}"
    finally:
        stop_process(shell)
