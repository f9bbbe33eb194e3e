"""Errors of the communication with the server. The message of each error is for the user.

::

    ServerError
    ├── ServerUrlError        the address is invalid
    ├── UnreachableError      no connection, or the connection was lost; `why` gives the reason
    ├── TLSError              the TLS connection failed, or the certificate is not trusted
    ├── SignInError           401: not authenticated
    ├── ForbiddenError        403: not permitted
    ├── NotCT2PETError        the server is not a ct2pet server
    ├── UntrainedError        409: the model is not trained
    ├── BusyError             429, 503: try again later
    ├── RefusedError          any other 4xx
    ├── ServerFaultError      5xx
    ├── InvalidResponseError  the response is damaged or has another structure
    └── CancelledError        the user cancelled the request
"""

from __future__ import annotations


class ServerError(Exception):
    """The communication with the server failed; `str` is a message for the user."""


class ServerUrlError(ServerError):
    """The server address is invalid."""


class UnreachableError(ServerError):
    """There is no connection, or the connection was lost.

    Attributes:
        why: `refused`, `unknown name`, `timeout` (while connecting), `no response`, `proxy` or `lost`.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class TLSError(ServerError):
    """The TLS connection failed, or the server's certificate is not trusted."""


class SignInError(ServerError):
    """The server requires a sign-in, or user name or password are wrong."""


class ForbiddenError(ServerError):
    """The user is signed in, but not permitted to do this."""


class NotCT2PETError(ServerError):
    """The server is not a ct2pet server."""


class UntrainedError(ServerError):
    """The model is not trained yet."""


class BusyError(ServerError):
    """The server is busy.

    Attributes:
        retry_in_s: Seconds until the next attempt, from the Retry-After header; 0 without it.
    """

    def __init__(self, message: str, retry_in_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_in_s = retry_in_s


class RefusedError(ServerError):
    """The server refused the request; the message gives the reason.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ServerFaultError(ServerError):
    """The server failed."""


class InvalidResponseError(ServerError):
    """The response is damaged or has another structure."""


class CancelledError(ServerError):
    """The user cancelled the request."""
