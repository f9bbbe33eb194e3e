"""What the door refuses by itself, and the HTTP status of every error.

::

    CT2PETError                     500
    ├── BusyError                   503   too many requests are waiting
    ├── ClientGoneError             499   nobody waits for the answer
    ├── RemoteError                 502   of the engine: the PACS does not answer as it should
    │   └── FetchCancelledError     499   of the engine: nobody waits for what the PACS would send
    ├── OutputError                 507   of the engine: no room on the disk
    └── InputError                  400
        ├── RequestError            400   a request with a wrong or missing word
        ├── SettingsError           400   a --conf with a wrong word: the server does not start
        ├── NotFoundError           404   an id, model or file that is not here
        └── ModelNotTrainedError    409   of the engine
"""

from __future__ import annotations

from lib.errors import CT2PETError, FetchCancelledError, InputError, ModelNotTrainedError, OutputError, RemoteError


class BusyError(CT2PETError):
    """The server has as many requests waiting as it takes."""


class ClientGoneError(CT2PETError):
    """Nobody waits for the answer any more; nobody reads this one either."""


class RequestError(InputError):
    """A request that cannot be understood."""


class SettingsError(InputError):
    """A ``--conf`` setting the app cannot have."""


class NotFoundError(InputError):
    """An id, model or file the server does not know."""


STATUS: tuple[tuple[type[CT2PETError], int], ...] = (
    (BusyError, 503),
    (ClientGoneError, 499),
    (FetchCancelledError, 499),
    (RemoteError, 502),
    (OutputError, 507),
    (NotFoundError, 404),
    (ModelNotTrainedError, 409),
    (InputError, 400),
)


def http_status(error: CT2PETError) -> int:
    """Return the HTTP status that an error is answered with."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)
