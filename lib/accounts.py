"""User accounts: names, roles and hashed passwords, in one JSON file that only its owner can read.

The file is `{"format": 1, "users": {NAME: {"role": ..., "password": {"n", "r", "p", "salt", "digest"}}}}`. A password
is stored as its scrypt digest with the cost of that digest, so that later versions can raise the cost.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import ConfigDict, Field, PlainSerializer

from lib.errors import AccountsError, OutputError
from lib.files import atomic_file, flush_to_disk, remove_abandoned

ROLES = ("user", "annotator", "reviewer", "admin")  # MONAI Label's, in ascending order: each includes those before it
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 1024
SALT_BYTES, DIGEST_BYTES = 16, 32
# digests stay out of error messages
STRICT = ConfigDict(extra="forbid", strict=True, val_json_bytes="base64", hide_input_in_errors=True)

Base64Bytes = Annotated[bytes, PlainSerializer(lambda value: base64.b64encode(value).decode(), when_used="json")]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class PasswordHash:
    """A scrypt digest, and the parameters that reproduce it from the password.

    Attributes:
        n, r, p: Cost: memory is 128 n r bytes, time is proportional to n r p.
        salt: Random, different for each password.
        digest: 32 bytes.
    """

    n: int
    r: int
    p: int
    salt: Annotated[Base64Bytes, Field(min_length=SALT_BYTES)]
    digest: Annotated[Base64Bytes, Field(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]

    def __post_init__(self) -> None:
        if self.n < 2 or self.n & (self.n - 1) or not 1 <= self.n * self.r <= 2**22 or not 1 <= self.p <= 64:
            raise ValueError(f"scrypt cost n={self.n}, r={self.r}, p={self.p} is out of range")


# Cost of new passwords (OWASP Password Storage Cheat Sheet, scrypt with 32 MiB). Also verified for an unknown user, so
# that the response takes as long as for a known one.
DUMMY_HASH = PasswordHash(2**15, 8, 3, bytes(SALT_BYTES), bytes(DIGEST_BYTES))


@dataclasses.dataclass(frozen=True)
class Account:
    """A user account; raises AccountsError if the name is invalid or the role unknown."""

    name: str
    role: str
    password: PasswordHash

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise AccountsError(
                f"invalid user name {self.name[:80]!r}: expected 1 to 64 letters, digits, '.', '_', '@' or '-', "
                "beginning with a letter or digit"
            )
        if self.role not in ROLES:
            raise AccountsError(f"unknown role {self.role[:80]!r}: expected one of {', '.join(reversed(ROLES))}")

    @property
    def roles(self) -> tuple[str, ...]:
        """The role and all roles that it includes."""
        return ROLES[: ROLES.index(self.role) + 1]


class _StoredUser(pydantic.BaseModel):
    model_config = STRICT
    role: str
    password: PasswordHash


class _UsersFile(pydantic.BaseModel):
    model_config = STRICT
    format: Literal[1] = 1
    users: dict[str, _StoredUser]


def hash_password(password: str, *, name: str = "") -> PasswordHash:
    """Return the salted hash of a new password.

    Raises:
        AccountsError: The password is too short, too long, too simple, or the user's own name.
    """
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise AccountsError(
            f"the password has {len(password)} characters: expected {MIN_PASSWORD_CHARACTERS} to "
            f"{MAX_PASSWORD_CHARACTERS}; four or five unrelated words are easy to remember and hard to guess"
        )
    if len(set(password)) < 4 or password.lower() == name.lower():
        raise AccountsError("the password is easy to guess: choose four or five unrelated words")
    salt = os.urandom(SALT_BYTES)
    return dataclasses.replace(DUMMY_HASH, salt=salt, digest=_digest(password, DUMMY_HASH, salt))


def verify_password(account: Account | None, password: str) -> bool:
    """Return whether the password is the account's; without an account, return False after the same time."""
    expected = DUMMY_HASH if account is None else account.password
    matches = hmac.compare_digest(_digest(password, expected, expected.salt), expected.digest)
    return matches and account is not None


def read_accounts(path: Path) -> dict[str, Account]:
    """Return the accounts of a users file, by name.

    Raises:
        AccountsError: The file is missing or invalid, or users other than its owner can read or change it.
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
        users = _UsersFile.model_validate_json(content).users
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(key) for key in first["loc"]) or "the whole file"
        raise AccountsError(f"{path} is not a valid users file: {where}: {first['msg']}") from error
    return {name: Account(name, user.role, user.password) for name, user in users.items()}


def add_account(path: Path, name: str, *, role: str, password: str) -> None:
    """Add an account to a users file; create the file if it does not exist.

    Raises:
        AccountsError: The name exists or is invalid, unknown role, weak password; see also `read_accounts`.
        OutputError: The file cannot be written.
    """
    accounts = read_accounts(path) if path.exists() else {}
    existing = next((known for known in accounts if known.lower() == name.lower()), None)
    if existing is not None:
        raise AccountsError(f"{existing} already exists in {path}: change it with users password or users remove")
    account = Account(name, role, DUMMY_HASH)  # report an invalid name or role before a weak password
    accounts[name] = dataclasses.replace(account, password=hash_password(password, name=name))
    write_accounts(path, accounts)


def change_password(path: Path, name: str, *, password: str) -> None:
    """Set an account's password; all its tokens become invalid.

    Raises:
        AccountsError: No such account, weak password; see also `read_accounts`.
        OutputError: The file cannot be written.
    """
    accounts = read_accounts(path)
    account = _existing(accounts, name, path)
    accounts[name] = dataclasses.replace(account, password=hash_password(password, name=name))
    write_accounts(path, accounts)


def remove_account(path: Path, name: str) -> None:
    """Remove an account from a users file.

    Raises:
        AccountsError: No such account; see also `read_accounts`.
        OutputError: The file cannot be written.
    """
    accounts = read_accounts(path)
    _existing(accounts, name, path)
    del accounts[name]
    write_accounts(path, accounts)


def write_accounts(path: Path, accounts: Mapping[str, Account]) -> None:
    """Write a users file atomically, readable by its owner only.

    Raises:
        OutputError: It cannot be written.
    """
    path = path.resolve()  # a symbolic link stays one
    users = {name: _StoredUser(role=one.role, password=one.password) for name, one in sorted(accounts.items())}
    try:
        remove_leftovers(path)
        with atomic_file(path, mode=0o600) as temporary:
            temporary.write_text(_UsersFile(users=users).model_dump_json(indent=2) + "\n", encoding="utf-8")
            flush_to_disk(temporary)
            _keep_owner(path, temporary)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error


def remove_leftovers(path: Path) -> None:
    """Remove temporary copies of a users file that killed processes left; they contain password digests."""
    if path.parent.is_dir():
        hidden = [found for found in path.parent.glob(".?*") if found.is_file() and found != path]
        # names of older versions and of this one
        copies = [one for one in hidden if one.name.startswith(f".{path.name}.") or one.name.endswith(f".{path.name}")]
        remove_abandoned(copies)


def _keep_owner(path: Path, temporary: Path) -> None:
    """Keep the owner of the file when root changes it: the server that reads it does not run as root."""
    if path.exists() and hasattr(os, "geteuid") and os.geteuid() == 0:
        before = path.stat()
        os.chown(temporary, before.st_uid, before.st_gid)


def _require_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if os.name == "posix" and mode & 0o077:
        raise AccountsError(
            f"users other than its owner can read or change the users file {path} (mode {mode:03o}): chmod 600 {path}, "
            "and set new passwords for all accounts"
        )


def _digest(password: str, cost: PasswordHash, salt: bytes) -> bytes:
    # NFC: keyboards send an umlaut as one character or as two
    normalized = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    maxmem = 256 * cost.r * (cost.n + cost.p)
    return hashlib.scrypt(normalized, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=maxmem, dklen=DIGEST_BYTES)


def _existing(accounts: Mapping[str, Account], name: str, path: Path) -> Account:
    if name not in accounts:
        listed = ", ".join(sorted(accounts)) or "none"
        raise AccountsError(f"no account {name[:80]!r} in {path}; existing accounts: {listed}")
    return accounts[name]
