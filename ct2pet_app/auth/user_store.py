"""The users file as the server sees it: read again whenever it has changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from lib.accounts import Account, read_accounts
from lib.errors import AccountsError

State = tuple[int, int, int, int]


class AccountBook:
    """The accounts of a users file, as it stands now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._state: State | None = None
        self._accounts: Mapping[str, Account] = {}

    def accounts(self) -> Mapping[str, Account]:
        """Return the accounts by name.

        Raises:
            AccountsError: The file is gone, cannot be read, or others can read it: then nobody may ask.
        """
        with self._lock:
            state = self._state_now()
            if state != self._state:
                self._state = None
                self._accounts = read_accounts(self.path)
                self._state = state
            return self._accounts

    def _state_now(self) -> State:
        try:
            status = self.path.stat()
        except OSError as error:
            raise AccountsError(f"the users file {self.path} cannot be read ({error.strerror})") from error
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino  # a chmod changes the second
