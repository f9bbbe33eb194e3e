"""main.py users: the file of the people who may ask the server, as its keeper types it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import main
from lib import accounts
from lib.accounts import PasswordHash, read_accounts, verify_password
from tests.server.processes import REPOSITORY

PASSWORD = "seven geese on a lake"


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file is to be; passwords cost nothing."""
    monkeypatch.setattr(accounts, "DUMMY_HASH", PasswordHash(16, 8, 1, bytes(16), bytes(32)))
    return tmp_path / "users.json"


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path, given: str = PASSWORD + "\n") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    return main.main(["users", *map(str, words)])


def test_people_are_added_listed_renewed_and_removed(
    users: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "add", "ada", "--role", "admin", "--file", users, "--password-stdin") == 0
    assert run(monkeypatch, "add", "una", "--role", "user", "--file", users, "--password-stdin") == 0
    assert run(monkeypatch, "password", "una", "--file", users, "--password-stdin", given="a lake under geese\r\n") == 0
    capsys.readouterr()
    assert run(monkeypatch, "list", "--file", users, "--json") == 0
    listed = capsys.readouterr().out
    assert json.loads(listed) == [{"name": "ada", "role": "admin"}, {"name": "una", "role": "user"}]
    assert verify_password(read_accounts(users)["una"], "a lake under geese")
    assert run(monkeypatch, "remove", "una", "--file", users) == 0
    assert set(read_accounts(users)) == {"ada"}


def test_the_list_shows_no_password(
    users: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "add", "ada", "--role", "admin", "--file", users, "--password-stdin")
    run(monkeypatch, "list", "--file", users)
    out = capsys.readouterr().out
    assert "ada" in out
    assert read_accounts(users)["ada"].password.digest.hex()[:8] not in out
    assert "salt" not in out


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (["add", "ada", "--role", "root", "--password-stdin"], PASSWORD, "unknown role 'root': expected one of admin"),
        (["add", "a/b", "--role", "user", "--password-stdin"], PASSWORD, "invalid user name 'a/b'"),
        (
            ["add", "ada", "--role", "user", "--password-stdin"],
            "geese",
            "the password has 5 characters: expected 12 to 1024",
        ),
        (["add", "ada", "--role", "user"], PASSWORD, "nobody is there to type a password; --password-stdin reads it"),
        (["remove", "ada"], "", "the users file"),
        (["list"], "", "main.py users add NAME --role admin --file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    users: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    given: str,
    said: str,
) -> None:
    assert run(monkeypatch, *words, "--file", users, given=given) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_password_is_no_argument(
    users: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "add", "ada", "--role", "admin", "--file", users, "--password", PASSWORD) == 2
    assert not users.exists()


def test_a_typed_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    """On a real terminal, with the real cost."""
    ours, theirs = pty.openpty()
    words = [
        sys.executable,
        "main.py",
        "users",
        "add",
        "ada",
        "--role",
        "admin",
        "--file",
        str(tmp_path / "users.json"),
    ]
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    seen = b""
    for question in (b"Password: ", b"confirmation: "):
        while not seen.endswith(question):
            seen += os.read(ours, 1000)
        os.write(ours, PASSWORD.encode() + b"\n")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert PASSWORD.encode() not in seen
    assert verify_password(read_accounts(tmp_path / "users.json")["ada"], PASSWORD)
