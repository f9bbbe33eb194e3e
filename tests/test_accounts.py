"""The users file: its accounts, its permissions, and the verification of passwords."""

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
    read_accounts,
    remove_account,
    verify_password,
    write_accounts,
)
from lib.cli.errors import advice
from lib.errors import AccountsError, OutputError

PASSWORD = "seven geese on a lake"
DEFAULT_HASH = module.DUMMY_HASH
EARLIER_FILE = """{
  "format": 1,
  "users": {
    "ada": {
      "role": "admin",
      "password": {
        "n": 16,
        "r": 8,
        "p": 1,
        "salt": "+f+Fj9/ygWjI1Rc5NSUh5Q==",
        "digest": "2QNgJqoCF1Ne+FhuiUWd/HHeXHiBksJfVYEQYPfB/X4="
      }
    }
  }
}
"""


@pytest.fixture(autouse=True)
def low_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make hashing fast: another test checks the real cost."""
    monkeypatch.setattr(module, "DUMMY_HASH", PasswordHash(16, 8, 1, bytes(16), bytes(32)))


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.json"
    add_account(path, "ada", role="admin", password=PASSWORD)
    return path


def test_the_cost_is_a_recommendation_of_owasp() -> None:
    assert (DEFAULT_HASH.n, DEFAULT_HASH.r, DEFAULT_HASH.p) == (2**15, 8, 3)
    assert 128 * DEFAULT_HASH.n * DEFAULT_HASH.r == 32 * 2**20


def test_written_accounts_are_read_back(users: Path) -> None:
    add_account(users, "una", role="user", password="a lake under seven geese")
    accounts = read_accounts(users)
    assert {name: account.role for name, account in accounts.items()} == {"ada": "admin", "una": "user"}
    assert verify_password(accounts["ada"], PASSWORD)
    assert not verify_password(accounts["ada"], "a lake under seven geese")


def test_the_digest_is_that_of_scrypt() -> None:
    """RFC 7914, section 12: the second test vector."""
    digest = bytes.fromhex("fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162")
    cost = PasswordHash(1024, 8, 16, bytes(16), bytes(32))
    assert module._digest("password", cost, b"NaCl") == digest


def test_a_users_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Written by `main.py users add` of the first version with accounts; salt and digest use the whole alphabet."""
    path = tmp_path / "users.json"
    path.write_text(EARLIER_FILE)
    path.chmod(0o600)
    accounts = read_accounts(path)
    assert verify_password(accounts["ada"], PASSWORD)
    write_accounts(path, accounts)
    assert path.read_text() == EARLIER_FILE


def test_accounts_with_the_same_password_have_different_digests(users: Path) -> None:
    add_account(users, "una", role="user", password=PASSWORD)
    accounts = read_accounts(users)
    assert accounts["ada"].password.digest != accounts["una"].password.digest


def test_unicode_normalization_of_a_password_does_not_matter() -> None:
    account = Account("ada", "admin", hash_password("sieben G\u00e4nse am See"))
    assert verify_password(account, "sieben Ga\u0308nse am See")


def test_the_password_of_an_unknown_user_is_hashed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    digest = module._digest
    monkeypatch.setattr(module, "_digest", lambda *arguments: hashed.append(arguments) or digest(*arguments))
    assert not verify_password(None, PASSWORD)
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
    assert Account("ada", role, module.DUMMY_HASH).roles == roles


@pytest.mark.parametrize("name", ["", " ada", "ada\n", "../ada", "a" * 65, "-ada", "ada/x", "äda", "ada b"])
def test_an_invalid_name_is_refused(users: Path, name: str) -> None:
    with pytest.raises(AccountsError, match=r"invalid user name .*: expected 1 to 64 letters"):
        add_account(users, name, role="user", password=PASSWORD)


def test_an_unknown_role_is_refused_with_a_list_of_roles(users: Path) -> None:
    with pytest.raises(AccountsError, match="unknown role 'root': expected one of admin, reviewer, annotator, user"):
        add_account(users, "una", role="root", password=PASSWORD)


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("geese", "the password has 5 characters: expected 12 to 1024; four or five unrelated words"),
        ("", "the password has 0 characters"),
        ("x" * 1025, "the password has 1025 characters"),
        ("aaaaaaaaaaaaa", "easy to guess"),
        ("ADA.LOVELACE.", "easy to guess"),
    ],
)
def test_a_weak_password_is_refused(tmp_path: Path, password: str, message: str) -> None:
    path = tmp_path / "users.json"
    with pytest.raises(AccountsError, match=message):
        add_account(path, "ada.lovelace.", role="admin", password=password)
    assert not path.exists()


def test_names_are_unique_regardless_of_case(users: Path) -> None:
    with pytest.raises(AccountsError, match=r"ada already exists in .*users.json"):
        add_account(users, "Ada", role="user", password=PASSWORD)


def test_a_new_password_replaces_the_old(users: Path) -> None:
    change_password(users, "ada", password="a lake under seven geese")
    ada = read_accounts(users)["ada"]
    assert (verify_password(ada, "a lake under seven geese"), verify_password(ada, PASSWORD)) == (True, False)
    assert ada.role == "admin"


def test_a_removed_account_is_gone(users: Path) -> None:
    remove_account(users, "ada")
    assert read_accounts(users) == {}


@pytest.mark.parametrize("change", [remove_account, lambda path, name: change_password(path, name, password=PASSWORD)])
def test_an_unknown_account_is_an_error_that_lists_the_accounts(users: Path, change: object) -> None:
    with pytest.raises(AccountsError, match=r"no account 'una' in .*; existing accounts: ada"):
        change(users, "una")  # type: ignore[operator]


def test_only_its_owner_can_read_the_file(users: Path) -> None:
    assert users.stat().st_mode & 0o777 == 0o600
    add_account(users, "una", role="user", password=PASSWORD)
    assert users.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in users.parent.iterdir()] == ["users.json"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="requires root")
def test_root_does_not_change_the_owner_of_the_file(users: Path) -> None:
    os.chown(users, 12345, 12345)
    add_account(users, "una", role="user", password=PASSWORD)
    assert (users.stat().st_uid, users.stat().st_gid) == (12345, 12345)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_other_users_can_read_or_change_is_refused(users: Path, mode: int) -> None:
    users.chmod(mode)
    with pytest.raises(AccountsError, match=rf"mode {mode:03o}\): chmod 600 .*users.json"):
        read_accounts(users)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(AccountsError, match=r"cannot be read \(No such file") as raised:
        read_accounts(tmp_path / "users.json")
    assert "main.py users add NAME --role admin" in advice(raised.value)


def users_file(**changed: object) -> str:
    password = {"n": 16, "r": 8, "p": 1, "salt": "MTYgYnl0ZXMgb2Ygc2FsdA==", "digest": "A" * 43 + "="}
    user: dict[str, object] = {"role": "user", "password": {**password, **changed}}
    return json.dumps({"format": 1, "users": {"ada": user}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a valid users file: the whole file: Invalid JSON"),
        ("[" * 5000, "is not a valid users file: the whole file: Invalid JSON"),
        ("[]", "the whole file: Input should be an object"),
        ('{"format": 2, "users": {}}', "format: Input should be 1"),
        ('{"format": 1, "users": {}, "more": 1}', "more: Extra inputs are not permitted"),
        ('{"format": 1, "users": {"ada": {"role": "user"}}}', r"users\.ada\.password: Field required"),
        (users_file(n="16"), r"users\.ada\.password\.n: Input should be a valid integer"),
        (users_file(n=True), r"users\.ada\.password\.n: Input should be a valid integer"),
        (users_file(digest="AAAA"), r"users\.ada\.password\.digest: Data should have at least 32 bytes"),
        (users_file(salt="?"), r"users\.ada\.password\.salt: Data should be valid base64"),
        (users_file(salt="AAAA"), r"users\.ada\.password\.salt: Data should have at least 16 bytes"),
        (users_file(more=1), r"users\.ada\.password\.more: Unexpected keyword argument"),
        (users_file(n=2**40), "scrypt cost n=1099511627776, r=8, p=1 is out of range"),
        (users_file(n=15), "scrypt cost n=15, r=8, p=1 is out of range"),
    ],
)
def test_an_invalid_file_is_refused(users: Path, text: str, message: str) -> None:
    users.write_text(text)
    with pytest.raises(AccountsError, match=message):
        read_accounts(users)


def test_a_write_that_fails_leaves_the_file_as_it_was(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = users.read_bytes()

    def no_space(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OutputError, match=r"users.json cannot be written \(No space left"):
        write_accounts(users, {})
    assert users.read_bytes() == before
    assert [path.name for path in users.parent.iterdir()] == ["users.json"]
