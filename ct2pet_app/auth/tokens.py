"""Bearer tokens: JWTs (HS256) that become invalid with the account, its password, or after their lifetime."""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import jwt

from ct2pet_app.errors import SettingsError
from lib.accounts import Account
from lib.files import flush_to_disk, unfinished_file

ALGORITHM = "HS256"
KEY_BYTES = 32
MAX_TOKEN_LENGTH = 2048


class TokenError(Exception):
    """An invalid token; the message gives the reason."""


class Tokens:
    """Issues and verifies tokens."""

    def __init__(self, key: bytes, *, lifetime_s: int) -> None:
        self._key = key
        self.lifetime_s = lifetime_s

    def issue(self, account: Account) -> str:
        """Return a token for an account whose password has been verified."""
        expires = int(time.time()) + self.lifetime_s
        claims = {"sub": account.name, "exp": expires, "pwd": self._password_fingerprint(account)}
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def account_of(self, token: str, accounts: Mapping[str, Account]) -> Account:
        """Return the account that a token was issued for.

        Raises:
            TokenError: Not issued by this server, expired, or its account was removed or has a new password.
        """
        try:
            if len(token) > MAX_TOKEN_LENGTH:
                raise jwt.DecodeError("too long")
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM], options={"require": ["sub", "exp", "pwd"]})
        except jwt.ExpiredSignatureError as error:
            raise TokenError("this token has expired") from error
        except jwt.PyJWTError as error:
            raise TokenError("this token was not issued by this server") from error
        account = accounts.get(claims["sub"])
        if account is None or not hmac.compare_digest(self._password_fingerprint(account), claims["pwd"]):
            raise TokenError("this token's account was removed, or its password changed")
        return account

    def _password_fingerprint(self, account: Account) -> str:
        """Return 24 hex digits that change with the password and reveal nothing about it."""
        stored = account.name.encode() + b"\0" + account.password.salt + account.password.digest
        return hmac.digest(self._key, b"password\0" + stored, "sha256")[:12].hex()


def signing_key(path: Path) -> bytes:
    """Return this installation's key; create a random one, readable by its owner only, if there is none.

    Raises:
        SettingsError: The file is truncated, or other users can read it.
        OSError: It can be neither read nor created.
    """
    if not path.exists():
        _create_key(path)
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        key = file.read()
    if len(key) != KEY_BYTES or (os.name == "posix" and mode & 0o077):
        raise SettingsError(
            f"{path}: expected {KEY_BYTES} bytes that only their owner can read, found {len(key)} bytes with mode "
            f"{mode:03o}; remove the file: the server creates a new one, and everyone has to log in again"
        )
    return key


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_file(path.parent, f".{path.name}", mode=0o600) as temporary:
        temporary.write_bytes(os.urandom(KEY_BYTES))
        flush_to_disk(temporary)
        with contextlib.suppress(FileExistsError):  # another server that starts at the same time has created it
            os.link(temporary, path)
