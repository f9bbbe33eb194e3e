"""The people who may ask a server: names, roles and hashed passwords, in one file that only its owner can read.

The file is JSON, `{"format": 1, "users": {NAME: {"role": ..., "password": {"n", "r", "p", "salt", "digest"}}}}`; a
password is kept as its scrypt digest with the cost under which it was made, so that the cost can rise later.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import json
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import AccountsError, OutputError
from lib.unfinished import remove_abandoned, unfinished_file

ROLES = ("user", "annotator", "reviewer", "admin")  # MONAI Label's; who has one may do what those before it may
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 1024
FORMAT = 1


@dataclass(frozen=True)
class PasswordHash:
    """A scrypt digest, and what is needed to make it again from the password.

    Attributes:
        n, r, p: Cost: memory is 128 n r bytes, time grows with n r p.
        salt: Random, of this password alone.
        digest: 32 bytes.
    """

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        if self.n < 2 or self.n & (self.n - 1) or not 1 <= self.n * self.r <= 2**22 or not 1 <= self.p <= 64:
            raise AccountsError(f"a scrypt cost of n={self.n}, r={self.r}, p={self.p} cannot be")


# OWASP Password Storage Cheat Sheet (scrypt, 32 MiB row): memory stays small where several people log in at once
SALT_BYTES, DIGEST_BYTES = 16, 32
NOBODY = PasswordHash(2**15, 8, 3, bytes(SALT_BYTES), bytes(DIGEST_BYTES))  # what an unknown name is compared with


@dataclass(frozen=True)
class Account:
    """One person."""

    name: str
    role: str
    password: PasswordHash

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise AccountsError(
                f"{self.name[:80]!r} cannot be a user name: 1 to 64 letters, digits, '.', '_', '@' or '-', beginning "
                "with a letter or digit"
            )
        if self.role not in ROLES:
            raise AccountsError(f"there is no role {self.role[:80]!r}; known are {', '.join(reversed(ROLES))}")

    @property
    def roles(self) -> tuple[str, ...]:
        """The role and all that it includes."""
        return ROLES[: ROLES.index(self.role) + 1]


def hash_password(password: str, *, name: str = "") -> PasswordHash:
    """Return what is kept of a new password.

    Raises:
        AccountsError: Too short, too long, or the user's own name.
    """
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise AccountsError(
            f"a password has {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters, this one has "
            f"{len(password)}; four or five unrelated words are easy to remember and hard to guess"
        )
    if len(set(password)) < 4 or password.lower() == name.lower():
        raise AccountsError("this password is one of the first that are tried; take four or five unrelated words")
    salt = os.urandom(SALT_BYTES)
    return dataclasses.replace(NOBODY, salt=salt, digest=_digest(password, NOBODY, salt))


def password_fits(account: Account | None, password: str) -> bool:
    """Return whether the password is the account's; for no account, no, after the same time."""
    kept = NOBODY if account is None else account.password
    same = hmac.compare_digest(_digest(password, kept, kept.salt), kept.digest)
    return same and account is not None


def read_accounts(path: Path) -> dict[str, Account]:
    """Return the accounts of a users file, by name.

    Raises:
        AccountsError: No such file, not a users file, or others than its owner can read or change it.
    """
    try:
        with path.open("rb") as file:
            _require_private(path, os.fstat(file.fileno()))
            content = file.read()
    except OSError as error:
        raise AccountsError(
            f"the users file {path} cannot be read ({error.strerror})", code="users_file_unreadable"
        ) from error
    try:
        users = _only(json.loads(content), "format", "users")
        if users["format"] != FORMAT:
            raise ValueError(f"format {users['format']!r}, expected {FORMAT}")
        return {name: _account(name, kept) for name, kept in users["users"].items()}
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise AccountsError(f"{path} is not a ct2pet users file: {error}") from error


def add_account(path: Path, name: str, *, role: str, password: str) -> None:
    """Add a person to a users file; makes the file where there is none.

    Raises:
        AccountsError: The name is taken or cannot be, no such role, a weak password; see also `read_accounts`.
        OutputError: The file cannot be written.
    """
    accounts = read_accounts(path) if path.exists() else {}
    taken = next((known for known in accounts if known.lower() == name.lower()), None)
    if taken is not None:
        raise AccountsError(f"{taken} is in {path} already; users password changes the password, users remove removes")
    nobody = Account(name, role, NOBODY)  # a wrong name or role is told before a weak password
    accounts[name] = Account(nobody.name, nobody.role, hash_password(password, name=name))
    write_accounts(path, accounts)


def change_password(path: Path, name: str, *, password: str) -> None:
    """Give a person a new password; all that they were logged in with ends.

    Raises:
        AccountsError: No such person, a weak password; see also `read_accounts`.
        OutputError: The file cannot be written.
    """
    accounts = read_accounts(path)
    known = _known(accounts, name, path)
    accounts[name] = Account(name, known.role, hash_password(password, name=name))
    write_accounts(path, accounts)


def remove_account(path: Path, name: str) -> None:
    """Take a person out of a users file.

    Raises:
        AccountsError: No such person; see also `read_accounts`.
        OutputError: The file cannot be written.
    """
    accounts = read_accounts(path)
    _known(accounts, name, path)
    del accounts[name]
    write_accounts(path, accounts)


def write_accounts(path: Path, accounts: Mapping[str, Account]) -> None:
    """Write a users file, readable by its owner only, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    path = path.resolve()  # a link stays a link
    users = {name: {"role": kept.role, "password": _to_json(kept.password)} for name, kept in sorted(accounts.items())}
    try:
        remove_leftovers(path)
        with unfinished_file(path.parent, f".{path.name}", mode=0o600) as beside:
            with beside.open("w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "users": users}, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            _keep_owner(path, beside)
            beside.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes had begun to write of a users file; it holds passwords' digests."""
    if path.parent.is_dir():
        hidden = [found for found in path.parent.glob(".?*") if found.is_file() and found != path]
        # as older versions named them, and as this one does
        begun = [one for one in hidden if one.name.startswith(f".{path.name}.") or one.name.endswith(f".{path.name}")]
        remove_abandoned(begun)


def _keep_owner(path: Path, beside: Path) -> None:
    """Leave the file to whom it belonged: root changes it, and the server that reads it is not root."""
    if path.exists() and hasattr(os, "geteuid") and os.geteuid() == 0:
        before = path.stat()
        os.chown(beside, before.st_uid, before.st_gid)


def _require_private(path: Path, status: os.stat_result) -> None:
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        raise AccountsError(
            f"others than its owner can read or change the users file {path} (mode "
            f"{stat.S_IMODE(status.st_mode):03o}): chmod 600 {path}, and give its people new passwords"
        )


def _digest(password: str, cost: PasswordHash, salt: bytes) -> bytes:
    # an umlaut is one character or two, as the keyboard has it
    letters = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(
        letters, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=256 * cost.r * (cost.n + cost.p), dklen=DIGEST_BYTES
    )


def _known(accounts: Mapping[str, Account], name: str, path: Path) -> Account:
    if name not in accounts:
        listed = ", ".join(sorted(accounts)) or "nobody"
        raise AccountsError(f"there is no {name[:80]!r} in {path}; known are {listed}")
    return accounts[name]


def _account(name: str, kept: Any) -> Account:
    user = _only(kept, "role", "password")
    password = _only(user["password"], "n", "r", "p", "salt", "digest")
    n, r, p = (password[key] for key in ("n", "r", "p"))
    if not all(isinstance(number, int) for number in (n, r, p)):
        raise ValueError(f"the cost of {name}'s password is not three whole numbers")
    salt, digest = (base64.b64decode(password[key], validate=True) for key in ("salt", "digest"))
    if len(salt) < SALT_BYTES or len(digest) != DIGEST_BYTES:
        raise ValueError(f"the password of {name} is cut off")
    return Account(name, user["role"], PasswordHash(n, r, p, salt, digest))


def _only(value: Any, *keys: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(keys):
        raise ValueError(f"expected an object with exactly {', '.join(keys)}")
    return value


def _to_json(password: PasswordHash) -> dict[str, Any]:
    salt, digest = (base64.b64encode(octets).decode() for octets in (password.salt, password.digest))
    return {"n": password.n, "r": password.r, "p": password.p, "salt": salt, "digest": digest}
