"""The commands of the documents that read and write folders, typed as they are written: see `rules.py`."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import main
from tests.cli.runner import SETTINGS
from tests.documents.commands import ROOT
from tests.documents.rules import blocks
from tests.documents.world import provide

# Small data, and a network of a few hundred weights
EXTRA = {"train": SETTINGS, "prepare": SETTINGS, "phantom": ["--slices", "2"], "users": ["--password-stdin"]}
REFIT = ["--folds", "2", "--processes", "1"]
PAPER = [option.replace("pixel_mm=6.4", "grid.size=32") for option in SETTINGS[2:]]  # it gives a size, no pixel_mm
BLOCKS = blocks(of_requests=False)


@pytest.fixture(scope="module")
def files(studies: Path, arrays: Path, model: Path) -> dict[str, Path]:
    """What the documents call by these names."""
    return {
        **dict.fromkeys(("STUDIES", "NINE_PATIENTS"), studies),
        "ARRAYS": arrays,
        "RUN": model.parent,
        **dict.fromkeys(("MODEL", "FILE"), model),
        "CT": studies / "PHANTOM_0002" / "CT",
    }


def added(arguments: list[str]) -> list[str]:
    """Return the options that make a command small."""
    options = EXTRA.get(arguments[0], [])
    if options is SETTINGS and "paper" in arguments:
        options = PAPER
    return [*options, *(REFIT if "--refit" in arguments else [])]


@pytest.mark.parametrize("block", BLOCKS)
def test_commands_work_as_they_are_written(
    block: str,
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CT2PET_CACHE", str(tmp_path / "cache"))
    for command in BLOCKS[block]:
        provide(command.text, tmp_path, files)
        text = command.text.replace("/etc/ct2pet/", "").replace("RUN1", "RUN").replace("RUN2", "RUN")
        if "main.py" in text:
            arguments = shlex.split(text.partition("main.py ")[2])
            monkeypatch.setattr(sys, "stdin", io.StringIO("seven geese on a lake\n"))
            code = main.main([*arguments, *added(arguments)])
        else:
            environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
            text = text.replace("scripts/", f"{ROOT}/scripts/")
            code = subprocess.run(["bash", "-c", text], env=environment, timeout=60, check=False).returncode
        assert code == 0, f"{command.place}: {command.text}\n{capfd.readouterr().err}"
