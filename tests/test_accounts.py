"""The users file: who is in it, who can read it, and whose password fits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lib import accounts as module
from lib.accounts import (
    Account,
    PasswordHash,
    add_account,
    change_password,
    hash_password,
    password_fits,
    read_accounts,
    remove_account,
    write_accounts,
)
from lib.cli.advice import advice
from lib.errors import AccountsError, OutputError

PASSWORD = "seven geese on a lake"
SHIPPED = module.NOBODY


@pytest.fixture(autouse=True)
def at_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash in no time: the cost has a test of its own."""
    monkeypatch.setattr(module, "NOBODY", PasswordHash(16, 8, 1, bytes(16), bytes(32)))


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.json"
    add_account(path, "ada", role="admin", password=PASSWORD)
    return path


def test_the_cost_of_a_password_is_what_owasp_asks_for() -> None:
    assert (SHIPPED.n, SHIPPED.r, SHIPPED.p) == (2**15, 8, 3)
    assert 128 * SHIPPED.n * SHIPPED.r == 32 * 2**20


def test_what_is_written_is_read(users: Path) -> None:
    add_account(users, "una", role="user", password="a lake under seven geese")
    people = read_accounts(users)
    assert {name: account.role for name, account in people.items()} == {"ada": "admin", "una": "user"}
    assert password_fits(people["ada"], PASSWORD)
    assert not password_fits(people["ada"], "a lake under seven geese")


def test_a_password_is_kept_as_scrypt_says(users: Path) -> None:
    """RFC 7914, section 12: the second test vector."""
    digest = bytes.fromhex("fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162")
    kept = PasswordHash(1024, 8, 16, b"NaCl", digest)
    assert password_fits(Account("ada", "admin", kept), "password")


def test_two_people_with_one_password_do_not_look_alike(users: Path) -> None:
    add_account(users, "una", role="user", password=PASSWORD)
    people = read_accounts(users)
    assert people["ada"].password.digest != people["una"].password.digest


def test_an_umlaut_is_the_same_however_it_is_typed() -> None:
    account = Account("ada", "admin", hash_password("sieben G\u00e4nse am See"))
    assert password_fits(account, "sieben Ga\u0308nse am See")


def test_nobodys_password_is_hashed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    digest = module._digest
    monkeypatch.setattr(module, "_digest", lambda *given: hashed.append(given) or digest(*given))
    assert not password_fits(None, PASSWORD)
    assert len(hashed) == 1


@pytest.mark.parametrize(
    ("role", "roles"),
    [
        ("user", ("user",)),
        ("annotator", ("user", "annotator")),
        ("reviewer", ("user", "annotator", "reviewer")),
        ("admin", ("user", "annotator", "reviewer", "admin")),
    ],
)
def test_a_role_includes_those_before_it(role: str, roles: tuple[str, ...]) -> None:
    assert Account("ada", role, module.NOBODY).roles == roles


@pytest.mark.parametrize("name", ["", " ada", "ada\n", "../ada", "a" * 65, "-ada", "ada/x", "äda", "ada b"])
def test_a_name_that_could_mean_something_else_is_refused(users: Path, name: str) -> None:
    with pytest.raises(AccountsError, match="cannot be a user name: 1 to 64 letters"):
        add_account(users, name, role="user", password=PASSWORD)


def test_an_unknown_role_is_refused_with_the_known_ones(users: Path) -> None:
    with pytest.raises(AccountsError, match="no role 'root'; known are admin, reviewer, annotator, user"):
        add_account(users, "una", role="root", password=PASSWORD)


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("geese", "a password has 12 to 1024 characters, this one has 5; four or five unrelated words"),
        ("", "this one has 0"),
        ("x" * 1025, "this one has 1025"),
        ("aaaaaaaaaaaaa", "one of the first that are tried"),
        ("ADA.LOVELACE.", "one of the first that are tried"),
    ],
)
def test_a_weak_password_is_refused(tmp_path: Path, password: str, words: str) -> None:
    path = tmp_path / "users.json"
    with pytest.raises(AccountsError, match=words):
        add_account(path, "ada.lovelace.", role="admin", password=password)
    assert not path.exists()


def test_a_name_is_taken_once_whatever_its_capitals(users: Path) -> None:
    with pytest.raises(AccountsError, match=r"ada is in .*users.json already"):
        add_account(users, "Ada", role="user", password=PASSWORD)


def test_a_new_password_replaces_the_old(users: Path) -> None:
    change_password(users, "ada", password="a lake under seven geese")
    ada = read_accounts(users)["ada"]
    assert (password_fits(ada, "a lake under seven geese"), password_fits(ada, PASSWORD)) == (True, False)
    assert ada.role == "admin"


def test_who_is_removed_is_gone(users: Path) -> None:
    remove_account(users, "ada")
    assert read_accounts(users) == {}


@pytest.mark.parametrize("change", [remove_account, lambda path, name: change_password(path, name, password=PASSWORD)])
def test_who_is_not_there_is_named_beside_who_is(users: Path, change: object) -> None:
    with pytest.raises(AccountsError, match=r"there is no 'una' in .*; known are ada"):
        change(users, "una")  # type: ignore[operator]


def test_only_its_owner_can_read_the_file(users: Path) -> None:
    assert users.stat().st_mode & 0o777 == 0o600
    add_account(users, "una", role="user", password=PASSWORD)
    assert users.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in users.parent.iterdir()] == ["users.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_file_to_whom_it_belongs(users: Path) -> None:
    os.chown(users, 12345, 12345)
    add_account(users, "una", role="user", password=PASSWORD)
    assert (users.stat().st_uid, users.stat().st_gid) == (12345, 12345)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_or_change_is_refused(users: Path, mode: int) -> None:
    users.chmod(mode)
    with pytest.raises(AccountsError, match=rf"mode {mode:03o}\): chmod 600 .*users.json"):
        read_accounts(users)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(AccountsError, match=r"cannot be read \(No such file") as raised:
        read_accounts(tmp_path / "users.json")
    assert "main.py users add NAME --role admin" in advice(raised.value)


def broken(**changed: object) -> str:
    password = {"n": 16, "r": 8, "p": 1, "salt": "MTYgYnl0ZXMgb2Ygc2FsdA==", "digest": "A" * 43 + "="}
    user: dict[str, object] = {"role": "user", "password": {**password, **changed}}
    return json.dumps({"format": 1, "users": {"ada": user}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a ct2pet users file"),
        ("[]", "expected an object with exactly format, users"),
        ('{"format": 2, "users": {}}', "format 2, expected 1"),
        ('{"format": 1, "users": {"ada": {"role": "user"}}}', "exactly role, password"),
        (broken(n="16"), "the cost of ada's password is not three whole numbers"),
        (broken(digest="AAAA"), "the password of ada is cut off"),
        (broken(salt="?"), "is not a ct2pet users file"),
        (broken(n=2**40), "a scrypt cost of n=1099511627776"),
        (broken(n=15), "a scrypt cost of n=15"),
    ],
)
def test_a_file_changed_by_hand_is_refused(users: Path, text: str, words: str) -> None:
    users.write_text(text)
    with pytest.raises(AccountsError, match=words):
        read_accounts(users)


def test_a_write_that_fails_leaves_the_file_as_it_was(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = users.read_bytes()

    def no_space(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OutputError, match=r"users.json cannot be written \(No space left"):
        write_accounts(users, {})
    assert users.read_bytes() == before
    assert [path.name for path in users.parent.iterdir()] == ["users.json"]
