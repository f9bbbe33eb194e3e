"""What the door refuses by itself, and the HTTP status of every error.

::

    CT2PETError                     500
    ├── BusyError                   503   of the engine: too many requests are waiting
    ├── OperationCancelledError     499   of the engine, with its FetchCancelledError
    │   └── ClientGoneError         499   the client has disconnected
    ├── RemoteError                 502   of the engine: the PACS does not answer as it should
    │   └── NotListedYetError       503   the first look at a PACS is under way
    ├── OutputError                 507   of the engine: no room on the disk
    └── InputError                  400
        ├── RequestError            400   a request with a wrong or missing word
        ├── SettingsError           400   a --conf with a wrong word: the server does not start
        ├── NotFoundError           404   an id, model or file that is not here
        ├── MemoryLimitError        413   of the engine: more memory than the server may use
        └── ModelNotTrainedError    409   of the engine
"""

from __future__ import annotations

from lib.errors import BusyError as BusyError  # raised by the server, too
from lib.errors import (
    CT2PETError,
    InputError,
    MemoryLimitError,
    ModelNotTrainedError,
    OperationCancelledError,
    OutputError,
    RemoteError,
)


class ClientDisconnectedError(OperationCancelledError):
    """The client has disconnected; nobody reads the response."""


class NotListedYetError(RemoteError):
    """The studies of a PACS have not been listed yet since the server was started."""


class RequestError(InputError):
    """A request that cannot be understood."""


class SettingsError(InputError):
    """A ``--conf`` setting the app cannot have."""


class NotFoundError(InputError):
    """An id, model or file the server does not know."""


STATUS: tuple[tuple[type[CT2PETError], int], ...] = (
    (BusyError, 503),
    (OperationCancelledError, 499),
    (NotListedYetError, 503),
    (RemoteError, 502),
    (OutputError, 507),
    (NotFoundError, 404),
    (ModelNotTrainedError, 409),
    (MemoryLimitError, 413),
    (InputError, 400),
)


def http_status(error: CT2PETError) -> int:
    """Return the HTTP status that an error is answered with."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)
