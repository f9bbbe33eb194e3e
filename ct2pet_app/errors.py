"""The server's own errors, and the HTTP status of every error.

::

    CT2PETError                     500  of the engine, see lib/errors.py
    ├── BusyError                   503  of the engine: too many requests are waiting
    ├── TaskRunningError            429  task_running            a task of this kind is running
    ├── OperationCancelledError     499  of the engine, with its FetchCancelledError
    │   └── ClientDisconnectedError 499  client_disconnected     the client has disconnected
    ├── RemoteError                 502  of the engine: a PACS is unreachable or fails
    │   └── NotListedYetError       503  studies_not_listed_yet  the first search of a PACS has not finished
    ├── OutputError                 507  of the engine: the disk is full
    └── InputError                  400
        ├── RequestError            400  invalid_request         a request with an invalid or missing parameter
        ├── SettingsError           400  invalid_setting         an invalid --conf: the server does not start
        ├── NotFoundError           404  not_found               an id, model or file that does not exist
        ├── UnlikeTrainingError     422  of the engine
        ├── MemoryLimitError        413  of the engine: more memory than the server may use
        └── ModelNotTrainedError    409  of the engine
    HTTPException
    └── HttpError                        an error of HTTP itself, with a code
"""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

from lib.errors import BusyError as BusyError  # raised by the server, too
from lib.errors import (
    CT2PETError,
    InputError,
    MemoryLimitError,
    ModelNotTrainedError,
    OperationCancelledError,
    OutputError,
    RemoteError,
    UnlikeTrainingError,
)


class TaskRunningError(CT2PETError):
    """A task that cannot start because another of its kind is running."""

    code = "task_running"


class ClientDisconnectedError(OperationCancelledError):
    """The client has disconnected; the response will not be read."""

    code = "client_disconnected"


class NotListedYetError(RemoteError):
    """The studies of a PACS have not been listed yet since the server was started."""

    code = "studies_not_listed_yet"


class RequestError(InputError):
    """A request with an invalid or missing parameter."""

    code = "invalid_request"


class SettingsError(InputError):
    """An invalid ``--conf`` setting."""

    code = "invalid_setting"


class NotFoundError(InputError):
    """An id, model or file the server does not know."""

    code = "not_found"


def switched_off(task: str, setting: str) -> NotFoundError:
    """Return the error of a kind of task that a setting of MONAI Label switches off."""
    message = f"{task} is switched off on this server ({setting})"
    return NotFoundError(message, code="task_disabled", task=task)


class HttpError(HTTPException):
    """An error of HTTP itself; without `code`, its code is that of the status.

    Raised where FastAPI passes no other exception through, such as while a body is read.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.params = params


STATUS: tuple[tuple[type[CT2PETError], int], ...] = (
    (BusyError, 503),
    (TaskRunningError, 429),
    (OperationCancelledError, 499),
    (NotListedYetError, 503),
    (RemoteError, 502),
    (OutputError, 507),
    (NotFoundError, 404),
    (ModelNotTrainedError, 409),
    (UnlikeTrainingError, 422),
    (MemoryLimitError, 413),
    (InputError, 400),
)


def http_status(error: CT2PETError) -> int:
    """Return the HTTP status of the response to an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)
