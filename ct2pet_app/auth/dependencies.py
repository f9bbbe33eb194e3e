"""Asks every request for a token before anything else of the server sees it."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import User
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ct2pet_app.api.problem import http_problem
from ct2pet_app.auth.roles import as_user
from ct2pet_app.auth.tokens import TokenError, Tokens
from ct2pet_app.auth.user_store import AccountBook
from lib.accounts import Account
from lib.errors import AccountsError

logger = logging.getLogger(__name__)

OPEN = (("GET", "/auth/"), ("POST", "/auth/token"))  # to log in; nothing else is for everybody
UNAUTHORIZED, UNAVAILABLE = 401, 503
CHALLENGE = {"WWW-Authenticate": "Bearer"}
ACCOUNT = "ct2pet.account"  # in the scope of a request that was let in
LOG_IN = "POST /auth/token with username and password gives a token; send it as 'Authorization: Bearer <token>'"


class AccountsGuard:
    """ASGI middleware: lets in who has an account, whatever is asked; the roles are the addresses' own matter."""

    def __init__(self, app: ASGIApp, *, book: AccountBook, tokens: Tokens) -> None:
        self._app = app
        self._book = book
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            if not _is_open(scope):
                scope[ACCOUNT] = self._account(scope)
        except HTTPException as refused:
            await http_problem(refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _account(self, scope: Scope) -> Account:
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = (headers[0] if len(headers) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise HTTPException(UNAUTHORIZED, f"log in first: {LOG_IN}", CHALLENGE)
        try:
            return self._tokens.account_of(token.strip(), self._book.accounts())
        except TokenError as error:
            challenge = {"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{error}"'}
            raise HTTPException(UNAUTHORIZED, f"{error}; log in again: {LOG_IN}", challenge) from error
        except AccountsError as error:
            raise nobody_may_ask(error) from error


def nobody_may_ask(error: AccountsError) -> HTTPException:
    """Return the answer while the users file cannot be trusted; its path is for the log, not for strangers."""
    logger.error("nobody may ask: %s", error)
    words = "the accounts of this server cannot be read just now; its log says why"
    return HTTPException(UNAVAILABLE, words, {"Retry-After": "60"})


async def user_asking(request: Request) -> User:
    """Return who asks, in the place of MONAI Label's `get_current_user`."""
    account: Any = request.scope.get(ACCOUNT)
    if not isinstance(account, Account):
        raise HTTPException(UNAUTHORIZED, f"log in first: {LOG_IN}", CHALLENGE)
    return as_user(account)


def _is_open(scope: Scope) -> bool:
    """Return whether an address is for everybody, by comparison of whole paths, as the router takes them."""
    starts = (
        monailabel_settings.MONAI_LABEL_API_STR,
        scope.get("root_path", "") + monailabel_settings.MONAI_LABEL_API_STR,
    )
    return any(
        scope["method"] == method and scope["path"] in {f"{start}{path}" for start in starts} for method, path in OPEN
    )
