"""Authenticates every request before any other part of the server handles it."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import User
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ct2pet_app.auth.roles import as_user
from ct2pet_app.auth.tokens import TokenError, Tokens
from ct2pet_app.auth.user_store import UserStore
from ct2pet_app.problem import http_problem
from lib.accounts import Account
from lib.errors import AccountsError

logger = logging.getLogger(__name__)

# to log in, and the start page, which links to the viewer
PUBLIC_ENDPOINTS = (("GET", "/auth/"), ("POST", "/auth/token"), ("GET", "/"), ("HEAD", "/"))
PUBLIC_PAGE = "/ct2pet/viewer"  # the viewer's files, among them the login form; they hold no data
UNAUTHORIZED, UNAVAILABLE = 401, 503
CHALLENGE = {"WWW-Authenticate": "Bearer"}
SCOPE_KEY = "ct2pet.account"  # of an authenticated request
LOG_IN = "POST /auth/token with username and password returns a token; send it as 'Authorization: Bearer <token>'"


class AuthenticationMiddleware:
    """ASGI middleware that requires a valid token for every endpoint; the endpoints check the roles themselves."""

    def __init__(self, app: ASGIApp, *, users: UserStore, tokens: Tokens) -> None:
        self._app = app
        self._users = users
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the server has no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            if not _is_public(scope):
                scope[SCOPE_KEY] = self._account(scope)
        except HTTPException as error:
            await http_problem(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _account(self, scope: Scope) -> Account:
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = (headers[0] if len(headers) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise HTTPException(UNAUTHORIZED, f"log in first: {LOG_IN}", CHALLENGE)
        try:
            return self._tokens.account_of(token.strip(), self._users.accounts())
        except TokenError as error:
            challenge = {"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{error}"'}
            raise HTTPException(UNAUTHORIZED, f"{error}; log in again: {LOG_IN}", challenge) from error
        except AccountsError as error:
            raise accounts_unavailable(error) from error


def accounts_unavailable(error: AccountsError) -> HTTPException:
    """Return the response while the users file cannot be used; log its path, which clients must not see."""
    logger.error("no request is authorized: %s", error)
    detail = "the accounts of this server cannot be read at present; its log has the reason"
    return HTTPException(UNAVAILABLE, detail, {"Retry-After": "60"})


async def authenticated_user(request: Request) -> User:
    """Return the caller; replaces MONAI Label's `get_current_user`."""
    account: Any = request.scope.get(SCOPE_KEY)
    if not isinstance(account, Account):
        raise HTTPException(UNAUTHORIZED, f"log in first: {LOG_IN}", CHALLENGE)
    return as_user(account)


def _is_public(scope: Scope) -> bool:
    """Return whether an endpoint needs no token; compares full paths, as the router does."""
    prefix = monailabel_settings.MONAI_LABEL_API_STR
    prefixes = (prefix, scope.get("root_path", "") + prefix)
    method, path = scope["method"], scope["path"]
    if method in ("GET", "HEAD") and any(f"{path}/".startswith(f"{p}{PUBLIC_PAGE}/") for p in prefixes):
        return True
    return any(
        (method, path) == (allowed, f"{p}{endpoint}") for allowed, endpoint in PUBLIC_ENDPOINTS for p in prefixes
    )
