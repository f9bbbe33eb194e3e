"""scripts/serve: what it refuses before anything is installed or started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SERVE = Path(__file__).resolve().parents[1] / "scripts" / "serve"


def serve(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SERVE, *words], capture_output=True, text=True, timeout=20)


def test_help_says_that_it_answers_this_computer_only() -> None:
    answer = serve("--help")
    assert answer.returncode == 0
    assert "It answers this computer only" in answer.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give the folder that holds the DICOM studies"),
        (("no-such-folder",), "no-such-folder: no such folder; give the folder that holds"),
        ((".", "--host", "0.0.0.0"), "--host is not taken: the server answers this computer only, or everybody with"),
        ((".", "--prot", "80"), "unknown option --prot; known are --port, --expose, --conf"),
        ((".", "--port", "http"), "--port needs a number"),
        ((".", "--conf", "models"), "--conf needs a key and a value"),
        ((".", ".."), "one folder of studies, found . and .."),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_one(words: tuple[str, ...], said: str) -> None:
    answer = serve(*words)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"scripts/serve: {said}")
