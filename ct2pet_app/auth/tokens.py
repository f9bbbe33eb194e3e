"""Bearer tokens: a name, until when, and a signature that dies with the account or its password.

A token is `ct2pet1.<payload>.<signature>`, both base64url: HMAC-SHA256 over the rest of its text. No header says how to
check it, so none can say it wrongly.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ct2pet_app.errors import SettingsError
from lib.accounts import Account
from lib.files import flush_to_disk, unfinished_file

VERSION = "ct2pet1"
KEY_BYTES = 32
LONGEST_TOKEN = 2048


class TokenError(Exception):
    """A token that opens nothing; the message says why, in words for the person who holds it."""


class Tokens:
    """Gives tokens and takes them back."""

    def __init__(self, key: bytes, *, lifetime_s: int, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self.lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, account: Account) -> str:
        """Return a token for an account that has shown its password."""
        payload = {
            "name": account.name,
            "until": int(self._clock()) + self.lifetime_s,
            "password": self._password(account),
        }
        text = f"{VERSION}.{_encode(json.dumps(payload, separators=(',', ':')).encode())}"
        return f"{text}.{self._sign(text)}"

    def account_of(self, token: str, accounts: Mapping[str, Account]) -> Account:
        """Return the account that a token stands for.

        Raises:
            TokenError: Not ours, expired, or its account or password is no more.
        """
        text, _, signature = token.rpartition(".")
        if len(token) > LONGEST_TOKEN or not hmac.compare_digest(
            self._sign(text).encode(), signature.encode("utf-8", "replace")
        ):
            raise TokenError("this token is not of this server")
        payload = json.loads(_decode(text.partition(".")[2]))  # signed by us: well formed
        if payload["until"] <= self._clock():
            raise TokenError("this token has expired")
        account = accounts.get(payload["name"])
        if account is None or not hmac.compare_digest(self._password(account), payload["password"]):
            raise TokenError("this token's account was removed, or its password changed")
        return account

    def _password(self, account: Account) -> str:
        """Return what changes with the password and tells nothing of it."""
        kept = account.name.encode() + b"\0" + account.password.salt + account.password.digest
        return _encode(hmac.digest(self._key, b"password\0" + kept, hashlib.sha256)[:12])

    def _sign(self, text: str) -> str:
        return _encode(hmac.digest(self._key, b"token\0" + text.encode("utf-8", "replace"), hashlib.sha256))


def signing_key(path: Path) -> bytes:
    """Return this installation's key, made at random where there is none, readable by its owner only.

    Raises:
        SettingsError: The file is cut off, or others can read it.
        OSError: It can neither be read nor made.
    """
    if not path.exists():
        _make_key(path)
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        key = file.read()
    if len(key) != KEY_BYTES or (os.name == "posix" and mode & 0o077):
        raise SettingsError(
            f"{path}: expected {KEY_BYTES} bytes that only their owner can read, found {len(key)} of mode {mode:03o}; "
            "remove the file, a new one is made and everybody logs in again"
        )
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_file(path.parent, path.name, mode=0o600) as temporary:
        temporary.write_bytes(os.urandom(KEY_BYTES))
        flush_to_disk(temporary)
        with contextlib.suppress(FileExistsError):  # two servers start together: the first one creates the key
            os.link(temporary, path)


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise TokenError("this token is not of this server") from error
