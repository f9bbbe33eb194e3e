"""`main.py phantom`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from main import main


def test_json_lists_the_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", str(tmp_path), "--patients", "2", "--slices", "2", "--json"]) == 0
    folders = [Path(folder) for folder in json.loads(capsys.readouterr().out)]
    assert folders == [tmp_path / "PHANTOM_0001", tmp_path / "PHANTOM_0002"]
    assert all(len(list((folder / "PET").glob("*.dcm"))) == 2 for folder in folders)


def test_folders_are_printed_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", str(tmp_path / "new"), "--patients", "1", "--slices", "2", "--seed", "7"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'PHANTOM_0001'}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patients", "0"], "patients must be 1 to 9999, found 0"),
        (["--slices", "1"], "slices is 1, expected 2 to 1000"),
        (["--seed", "-1"], "a seed is 0 or above, found -1"),
    ],
)
def test_invalid_options_exit_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["phantom", str(tmp_path), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
