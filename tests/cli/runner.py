"""Run commands of `main.py` in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

import main
from lib.phantom.generate import PhantomSettings
from tests.learning.conftest import TINY

COARSE = PhantomSettings(slices=10, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
SETTINGS = [option for setting in (*TINY, "pixel_mm=6.4") for option in ("--set", setting)]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()  # drop the output of fixtures
    code = main.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one-line error of a command that must fail with exit code 2."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, err
    return err
