"""Asks every request for a token before anything else of the server sees it."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, HTTPException
from monailabel.endpoints.user.auth import User
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ct2pet_app.accounts.book import AccountBook
from ct2pet_app.accounts.roles import as_user, is_open, roles_asked
from ct2pet_app.accounts.tokens import TokenError, Tokens
from lib.accounts import Account
from lib.errors import AccountsError

logger = logging.getLogger(__name__)

UNAUTHORIZED, FORBIDDEN, UNAVAILABLE = 401, 403, 503
ACCOUNT = "ct2pet.account"  # in the scope of a request that was let in
LOG_IN = "POST /auth/token with username and password gives a token; send it as 'Authorization: Bearer <token>'"


class AccountsGuard:
    """ASGI middleware: lets in who has the roles that an address declares; where it declares none, any user."""

    def __init__(self, app: ASGIApp, *, book: AccountBook, tokens: Tokens, server: FastAPI) -> None:
        self._app = app
        self._book = book
        self._tokens = tokens
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            if not is_open(self._server.router.routes, scope):
                scope[ACCOUNT] = self._admitted(scope)
        except HTTPException as refused:
            told = JSONResponse({"detail": refused.detail}, refused.status_code, headers=dict(refused.headers or {}))
            await told(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Account:
        account = self._account(scope)
        roles = set(as_user(account).roles)
        for asked in roles_asked(self._server.router.routes, scope):
            if not asked & roles:
                logger.info("%s %s refused to a %s", scope["method"], _first_word(scope), account.role)
                raise HTTPException(
                    FORBIDDEN,
                    f"this needs the role {' or '.join(sorted(asked))}, and {account.name} is {account.role}; whoever "
                    "keeps the users file of this server can change that",
                )
        return account

    def _account(self, scope: Scope) -> Account:
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = (headers[0] if len(headers) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise HTTPException(UNAUTHORIZED, f"log in first: {LOG_IN}", {"WWW-Authenticate": "Bearer"})
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
        raise HTTPException(UNAUTHORIZED, f"log in first: {LOG_IN}", {"WWW-Authenticate": "Bearer"})
    return as_user(account)


def _first_word(scope: Scope) -> str:
    """Return the beginning of the path: the rest may hold an id, and that a patient's name."""
    return "/" + str(scope["path"]).split("/")[1]
