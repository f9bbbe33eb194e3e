"""What can go wrong between Slicer and the server. Each error's words are a sentence for the user.

::

    ServerError
    ├── AddressError        what was typed is no address of a server
    ├── UnreachableError    nobody answers there, or the connection was lost; `why` says how
    ├── TLSError            the encrypted connection cannot be made or trusted
    ├── SignInError         401: a user name and password are needed, or were wrong
    ├── ForbiddenError      403: this user may not
    ├── NotCT2PETError      something else answers there
    ├── UntrainedError      409: nobody has trained this model yet
    ├── BusyError           429, 503: later
    ├── RefusedError        any other 4xx: the server says what to do
    ├── ServerFaultError    5xx: the server's fault
    ├── AnswerError         an answer that is damaged or not understood
    └── CancelledError      the user has cancelled
"""

from __future__ import annotations


class ServerError(Exception):
    """Something between Slicer and the server went wrong; `str` is a sentence for the user."""


class ServerUrlError(ServerError):
    """What was typed is no address of a server."""


class UnreachableError(ServerError):
    """Nobody answers, or the connection was lost.

    Attributes:
        why: `refused`, `unknown name`, `timeout` (of connecting), `no answer` (to what was asked), `proxy` or `lost`.
    """

    def __init__(self, sentence: str, why: str) -> None:
        super().__init__(sentence)
        self.why = why


class TLSError(ServerError):
    """The encrypted connection cannot be made, or the server's certificate cannot be trusted."""


class SignInError(ServerError):
    """The server wants a user name and password, or took those given for wrong."""


class ForbiddenError(ServerError):
    """The user is known and may not do this."""


class NotCT2PETError(ServerError):
    """Something answers that is no ct2pet server."""


class UntrainedError(ServerError):
    """Nobody has trained the model yet."""


class BusyError(ServerError):
    """The server has as much to do as it takes.

    Attributes:
        again_in_s: When it wants to be asked again, as it says; 0 where it does not.
    """

    def __init__(self, sentence: str, retry_in_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.retry_in_s = retry_in_s


class RefusedError(ServerError):
    """The server does not do what was asked, and says why.

    Attributes:
        status: Of HTTP.
    """

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class ServerFaultError(ServerError):
    """The server failed."""


class InvalidResponseError(ServerError):
    """An answer that is damaged or not understood."""


class CancelledError(ServerError):
    """The user has cancelled."""
