"""`main.py users`: the users file of a server."""

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
ADDED = "Added user ada with role admin\nAdded user una with role user\nChanged the password of user una\n"


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of the users file; hashing is made cheap."""
    monkeypatch.setattr(accounts, "DUMMY_HASH", PasswordHash(16, 8, 1, bytes(16), bytes(32)))
    return tmp_path / "users.json"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path, stdin: str = PASSWORD + "\n") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    return main.main(["users", *map(str, arguments)])


def test_users_are_added_listed_changed_and_removed(
    users: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "add", "ada", "--role", "admin", "--file", users, "--password-stdin") == 0
    assert run(monkeypatch, "add", "una", "--role", "user", "--file", users, "--password-stdin") == 0
    assert run(monkeypatch, "password", "una", "--file", users, "--password-stdin", stdin="a lake under geese\r\n") == 0
    assert capsys.readouterr() == ("", ADDED)
    assert run(monkeypatch, "list", "--file", users, "--json") == 0
    listed = capsys.readouterr().out
    assert json.loads(listed) == [{"name": "ada", "role": "admin"}, {"name": "una", "role": "user"}]
    assert verify_password(read_accounts(users)["una"], "a lake under geese")
    assert run(monkeypatch, "remove", "una", "--file", users) == 0
    assert capsys.readouterr().err == "Removed user una\n"
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
    ("arguments", "stdin", "message"),
    [
        (["add", "ada", "--role", "root", "--password-stdin"], PASSWORD, "unknown role 'root': expected one of admin"),
        (["add", "a/b", "--role", "user", "--password-stdin"], PASSWORD, "invalid user name 'a/b'"),
        (
            ["add", "ada", "--role", "user", "--password-stdin"],
            "geese",
            "the password has 5 characters: expected 12 to 1024",
        ),
        (["add", "ada", "--role", "user"], PASSWORD, "no terminal to prompt for a password; use --password-stdin"),
        (["remove", "ada"], "", "the users file"),
        (["list"], "", "main.py users add NAME --role admin --file"),
    ],
)
def test_invalid_input_is_one_line_and_exit_2(
    users: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    stdin: str,
    message: str,
) -> None:
    assert run(monkeypatch, *arguments, "--file", users, stdin=stdin) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_password_cannot_be_an_argument(
    users: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "add", "ada", "--role", "admin", "--file", users, "--password", PASSWORD) == 2
    assert not users.exists()


def test_the_password_is_prompted_twice_without_echo(tmp_path: Path) -> None:
    """On a real terminal, with the real hashing cost."""
    ours, theirs = pty.openpty()
    users = str(tmp_path / "users.json")
    command = [sys.executable, "main.py", "users", "add", "ada", "--role", "admin", "--file", users]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    output = b""
    for prompt in (b"Password: ", b"confirmation: "):
        while not output.endswith(prompt):
            output += os.read(ours, 1000)
        os.write(ours, PASSWORD.encode() + b"\n")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert PASSWORD.encode() not in output
    assert verify_password(read_accounts(tmp_path / "users.json")["ada"], PASSWORD)
