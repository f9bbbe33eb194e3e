"""What a token authorizes, for how long, and what makes it invalid."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import jwt
import pytest

from ct2pet_app.auth.tokens import TokenError, Tokens, signing_key
from ct2pet_app.auth.user_store import UserStore
from ct2pet_app.errors import SettingsError
from lib.accounts import Account, PasswordHash, read_accounts, write_accounts
from lib.errors import AccountsError
from tests.server.processes import write_users

KEY = bytes(range(32))


def account(name: str = "ada", *, role: str = "admin", salt: bytes = b"16 bytes of salt") -> Account:
    return Account(name, role, PasswordHash(16, 8, 1, salt, bytes(32)))


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(KEY, lifetime_s=60)


def signed(**claims: object) -> str:
    """Return a token with the server's key and any claims."""
    return jwt.encode({"sub": "ada", "exp": int(time.time()) + 60, "pwd": "", **claims}, KEY, algorithm="HS256")


def test_a_token_identifies_its_account(tokens: Tokens) -> None:
    ada, una = account(), account("una", role="user")
    assert tokens.account_of(tokens.issue(una), {"ada": ada, "una": una}) == una


def test_a_token_reveals_nothing_about_the_password(tokens: Tokens) -> None:
    payload = tokens.issue(account()).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert set(claims) == {"sub", "exp", "pwd"}
    assert len(claims["pwd"]) == 24  # 12 bytes of an HMAC with the server's key


def test_a_token_expires(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("ct2pet_app.auth.tokens.time.time", lambda: now - 30)
    assert tokens.account_of(tokens.issue(account()), {"ada": account()}).name == "ada"
    monkeypatch.setattr("ct2pet_app.auth.tokens.time.time", lambda: now - 60)
    token = tokens.issue(account())
    with pytest.raises(TokenError, match="this token has expired"):
        tokens.account_of(token, {"ada": account()})


def test_a_changed_role_applies_at_once(tokens: Tokens) -> None:
    assert tokens.account_of(tokens.issue(account()), {"ada": account(role="user")}).role == "user"


@pytest.mark.parametrize("now", [{}, {"ada": account(salt=b"another 16 bytes")}], ids=["removed", "new password"])
def test_a_token_becomes_invalid_with_its_account_or_password(tokens: Tokens, now: dict[str, Account]) -> None:
    with pytest.raises(TokenError, match="account was removed, or its password changed"):
        tokens.account_of(tokens.issue(account()), now)


def test_a_token_with_another_password_fingerprint_is_refused(tokens: Tokens) -> None:
    with pytest.raises(TokenError, match="account was removed, or its password changed"):
        tokens.account_of(signed(), {"ada": account()})


def forged(token: str) -> list[str]:
    header, payload, signature = token.split(".")
    other = base64.urlsafe_b64encode(b'{"sub":"ada","exp":9000000000,"pwd":""}').decode().rstrip("=")
    claims = jwt.decode(token, options={"verify_signature": False})
    nested = base64.urlsafe_b64encode(b"[" * 1200).decode()
    return [
        "",
        ".",
        "..",
        "garbage",
        "ä.ö.ü",
        "x" * 100_000,
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.{signature}x",
        f"ct2pet1.{payload}.{signature}",  # the format of earlier versions
        f"{header}.{payload}.{signature[:-1]}",
        Tokens(bytes(32), lifetime_s=60).issue(account()),
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode(claims, KEY * 2, algorithm="HS512"),
        jwt.encode(claims, KEY * 2, algorithm="HS256"),
        signed(sub=None),
        signed(sub=1),
        signed(exp=None),
        signed(exp="soon"),
        signed(pwd=None),
        signed(nbf=int(time.time()) + 60),
        f"{nested}.{payload}.{signature}",
    ]


@pytest.mark.parametrize("number", range(23))
def test_a_forged_token_is_refused(tokens: Tokens, number: int) -> None:
    with pytest.raises(TokenError, match="this token was not issued by this server"):
        tokens.account_of(forged(tokens.issue(account()))[number], {"ada": account()})


def test_the_key_is_random_persistent_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "accounts.key", tmp_path / "b" / "accounts.key"
    assert signing_key(first) == signing_key(first) != signing_key(second)
    assert first.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in first.parent.iterdir()] == ["accounts.key"]


@pytest.mark.parametrize(("content", "mode"), [(b"", 0o600), (bytes(31), 0o600), (bytes(32), 0o640)])
def test_a_truncated_or_readable_key_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    path = tmp_path / "accounts.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(
        SettingsError, match="remove the file: the server creates a new one, and everyone has to log in again"
    ):
        signing_key(path)


def test_a_change_of_the_users_file_applies_at_once(tmp_path: Path) -> None:
    path = write_users(tmp_path)
    users = UserStore(path)
    assert set(users.accounts()) == {"una", "ann", "rob", "ada"}
    write_accounts(path, {"ada": read_accounts(path)["ada"]})
    assert set(users.accounts()) == {"ada"}


def test_no_accounts_are_returned_while_the_file_is_missing_or_readable(tmp_path: Path) -> None:
    path = write_users(tmp_path)
    users = UserStore(path)
    users.accounts()
    path.chmod(0o644)
    with pytest.raises(AccountsError, match="chmod 600"):
        users.accounts()
    path.chmod(0o600)
    assert len(users.accounts()) == 4
    path.unlink()
    for _ in range(2):
        with pytest.raises(AccountsError, match="cannot be read"):
            users.accounts()
