"""The users file as the server sees it: read again whenever it has changed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from lib.accounts import Account, read_accounts
from lib.errors import AccountsError


class UserStore:
    """The current accounts of a users file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = functools.lru_cache(maxsize=1)(lambda version: read_accounts(path))

    def accounts(self) -> Mapping[str, Account]:
        """Return the accounts by name.

        Raises:
            AccountsError: The file is missing or invalid, or other users can read it: no request is authorized then.
        """
        try:
            status = self._path.stat()
        except OSError as error:
            raise AccountsError(f"the users file {self._path} cannot be read ({error.strerror})") from error
        # st_ctime_ns: a chmod changes nothing else
        return self._read((status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))
