"""The tutorial, typed from top to bottom: its commands in one shell, with phantoms of few slices."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from tests.documents.commands import ROOT, TUTORIAL, commands_of
from tests.server.processes import free_port, stop_process

READY = "until curl -so /dev/null http://127.0.0.1:8000/info/; do kill -0 %1; sleep 0.3; done"


@pytest.mark.server
@pytest.mark.slow
def test_the_tutorial_works_as_it_is_typed(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    require_program("curl")
    lines = ["set -eu"]
    for command in commands_of(TUTORIAL):
        lines += [command.text, *([READY] if command.text.endswith("&") else [])]
    script = "\n".join(lines)
    script = script.replace("python main.py", f"python {ROOT}/main.py").replace(" scripts/", f" {ROOT}/scripts/")
    script = script.replace("\nscripts/", f"\n{ROOT}/scripts/").replace("source .venv", f"source {ROOT}/.venv")
    script = script.replace("--patients 12", "--patients 12 --slices 6")
    port = free_port()
    script = script.replace(":8000", f":{port}").replace("serve studies", f"serve studies --port {port}")
    environment = {**os.environ, "CT2PET_CACHE": str(tmp_path / "cache"), "CURL_HOME": str(tmp_path)}
    (tmp_path / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    shell: subprocess.Popen[Any] = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = shell.communicate(timeout=300)
        assert shell.returncode == 0, f"{script}\n{out[-3000:]}\n{err[-3000:]}"
    finally:
        stop_process(shell)
    assert "BQML -> SUVbw" in out and "hu_median" in out
    assert len(list((tmp_path / "synthetic").glob("*.dcm"))) == 6
    assert (tmp_path / "report" / "report.html").is_file()
    first, served = (read_volume_file(tmp_path / name, unit=Unit.SUV_BW) for name in ("pet.nrrd", "served.nrrd"))
    assert first.geometry.shape == served.geometry.shape == (6, 256, 256)
