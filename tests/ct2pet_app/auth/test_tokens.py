"""What a token opens, for how long, and what ends it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from ct2pet_app.auth.tokens import TokenError, Tokens, signing_key
from ct2pet_app.auth.user_store import AccountBook
from ct2pet_app.errors import SettingsError
from lib.accounts import Account, PasswordHash, read_accounts, write_accounts
from lib.errors import AccountsError
from tests.server.processes import write_users

KEY = bytes(range(32))


def account(name: str = "ada", *, role: str = "admin", salt: bytes = b"16 bytes of salt") -> Account:
    return Account(name, role, PasswordHash(16, 8, 1, salt, bytes(32)))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(KEY, lifetime_s=60, clock=clock)


def test_a_token_stands_for_its_account(tokens: Tokens) -> None:
    ada, una = account(), account("una", role="user")
    assert tokens.account_of(tokens.issue(una), {"ada": ada, "una": una}) == una


def test_a_token_says_nothing_of_the_password(tokens: Tokens) -> None:
    payload = tokens.issue(account()).split(".")[1]
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert set(told) == {"name", "until", "password"}
    assert len(told["password"]) == 16  # 12 bytes of an HMAC under the server's key


def test_a_token_expires(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue(account())
    clock.now = 1059.9
    assert tokens.account_of(token, {"ada": account()}).name == "ada"
    clock.now = 1060
    with pytest.raises(TokenError, match="this token has expired"):
        tokens.account_of(token, {"ada": account()})


def test_a_role_taken_away_is_gone_at_once(tokens: Tokens) -> None:
    assert tokens.account_of(tokens.issue(account()), {"ada": account(role="user")}).role == "user"


@pytest.mark.parametrize("now", [{}, {"ada": account(salt=b"another 16 bytes")}], ids=["removed", "new password"])
def test_a_token_dies_with_its_account_or_password(tokens: Tokens, now: dict[str, Account]) -> None:
    with pytest.raises(TokenError, match="account was removed, or its password changed"):
        tokens.account_of(tokens.issue(account()), now)


def forged(token: str) -> list[str]:
    version, payload, signature = token.split(".")
    other = base64.urlsafe_b64encode(b'{"name":"ada","until":9e9,"password":""}').decode()
    return [
        "",
        ".",
        "..",
        "garbage",
        "ä.ö.ü",
        "x" * 100_000,
        f"{version}.{payload}.",
        f"{version}.{payload}",
        f"{version}.{other}.{signature}",
        f"{version}.{payload}.{signature}x",
        f"ct2pet2.{payload}.{signature}",
        f"{version}.{payload}.{signature[:-1]}",
        Tokens(bytes(32), lifetime_s=60).issue(account()),
        # alg none, as JWT libraries once took it
        "eyJhbGciOiJub25lIn0.eyJuYW1lIjoiYWRhIiwidW50aWwiOjllOX0.",
    ]


@pytest.mark.parametrize("number", range(14))
def test_a_forged_token_opens_nothing(tokens: Tokens, number: int) -> None:
    with pytest.raises(TokenError, match="this token is not of this server"):
        tokens.account_of(forged(tokens.issue(account()))[number], {"ada": account()})


def test_the_key_is_random_kept_and_only_its_owners(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "accounts.key", tmp_path / "b" / "accounts.key"
    assert signing_key(first) == signing_key(first) != signing_key(second)
    assert first.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in first.parent.iterdir()] == ["accounts.key"]


@pytest.mark.parametrize(("content", "mode"), [(b"", 0o600), (bytes(31), 0o600), (bytes(32), 0o640)])
def test_a_key_that_is_cut_off_or_readable_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    path = tmp_path / "accounts.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(SettingsError, match="remove the file, a new one is made and everybody logs in again"):
        signing_key(path)


def test_a_change_of_the_users_file_is_seen_at_once(tmp_path: Path) -> None:
    path = write_users(tmp_path)
    book = AccountBook(path)
    assert set(book.accounts()) == {"una", "ann", "rob", "ada"}
    write_accounts(path, {"ada": read_accounts(path)["ada"]})
    assert set(book.accounts()) == {"ada"}


def test_nobody_may_ask_while_the_file_is_gone_or_readable(tmp_path: Path) -> None:
    path = write_users(tmp_path)
    book = AccountBook(path)
    book.accounts()
    path.chmod(0o644)
    with pytest.raises(AccountsError, match="chmod 600"):
        book.accounts()
    path.chmod(0o600)
    assert len(book.accounts()) == 4
    path.unlink()
    for _ in range(2):
        with pytest.raises(AccountsError, match="cannot be read"):
            book.accounts()
