"""Logging in, under MONAI Label's own contract: its client and the stock Slicer module ask exactly this."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import User

from ct2pet_app.api.models.login import LoginSettings, Token
from ct2pet_app.auth.dependencies import nobody_may_ask, user_asking
from ct2pet_app.auth.login_throttle import Attempts, TooManyAttemptsError
from ct2pet_app.auth.tokens import Tokens
from ct2pet_app.auth.user_store import AccountBook
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from lib.accounts import password_fits
from lib.errors import AccountsError

logger = logging.getLogger(__name__)

LONGEST_FORM_BYTES = 16 * 1024
CHECKED_AT_ONCE = 2  # each takes a core for a quarter of a second, and 32 MiB
MAX_WAITING = 50
LOGIN_FORM = {  # for the description of the API: the form is read by hand, with limits of its own
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["username", "password"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["password"]},
                        "username": {"type": "string", "minLength": 1},
                        "password": {"type": "string", "minLength": 1},
                    },
                }
            }
        },
    }
}


def auth_routes(book: AccountBook, tokens: Tokens, attempts: Attempts) -> APIRouter:
    """Return the addresses that log in."""
    router = APIRouter(route_class=GuardedRoute, prefix="/auth", tags=["Auth"])
    router.add_api_route("/", _enabled, methods=["GET"], response_model=LoginSettings)
    token = _Login(book, tokens, attempts).token
    router.add_api_route("/token", token, methods=["POST"], response_model=Token, openapi_extra=LOGIN_FORM)
    router.add_api_route("/token/valid", _valid, methods=["GET"], response_model=User)
    return router


def _enabled() -> dict[str, Any]:
    """Whether this server asks for a token."""
    return {"enabled": True, "client_id": monailabel_settings.MONAI_LABEL_AUTH_CLIENT_ID, "realm": "ct2pet"}


def _valid(user: User = Depends(user_asking)) -> dict[str, Any]:
    """Who holds this token."""
    return dict(user.model_dump())


class _Login:
    """Checks passwords, few at once: it is made to be slow, and must not keep the server from answering."""

    def __init__(self, book: AccountBook, tokens: Tokens, attempts: Attempts) -> None:
        self._book, self._tokens, self._attempts = book, tokens, attempts
        self._workers = ThreadPoolExecutor(CHECKED_AT_ONCE, thread_name_prefix="password")
        self._waiting = 0

    async def token(self, request: Request) -> JSONResponse:
        """A token for a name and a password (OAuth2 password form)."""
        name, password = await _name_and_password(request)
        address = request.client.host if request.client else ""
        try:
            account = self._book.accounts().get(name)
        except AccountsError as error:
            raise nobody_may_ask(error) from error
        if self._waiting >= MAX_WAITING:
            raise HTTPException(503, "too many people log in at once; try again", {"Retry-After": "5"})
        try:
            self._attempts.begin(address, name)
        except TooManyAttemptsError as error:
            raise HTTPException(429, str(error), {"Retry-After": str(error.wait_s)}) from error
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            fits = await loop.run_in_executor(self._workers, password_fits, account, password)
        finally:
            self._waiting -= 1
        if account is None or not fits:
            # an unknown name is not logged: it may be a password in the wrong field
            logger.warning("wrong password from %s for %s", address, name if account else "an unknown name")
            raise HTTPException(401, "wrong user name or password", {"WWW-Authenticate": "Bearer"})
        self._attempts.succeeded(address, name)
        logger.info("%s logged in from %s", name, address)
        told = {
            "access_token": self._tokens.issue(account),
            "token_type": "bearer",
            "expires_in": self._tokens.lifetime_s,
        }
        return JSONResponse(told, headers={"Cache-Control": "no-store"})


async def _name_and_password(request: Request) -> tuple[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send username and password as a form (application/x-www-form-urlencoded)")
    form = bytearray()
    async for chunk in request.stream():
        form += chunk
        if len(form) > LONGEST_FORM_BYTES:
            raise HTTPException(413, f"a login has at most {LONGEST_FORM_BYTES} bytes")
    try:
        fields = parse_qs(form.decode("utf-8"), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise HTTPException(400, "the login form cannot be read") from error
    if fields.get("grant_type", ["password"]) != ["password"]:
        raise HTTPException(400, "grant_type: only password is known here")
    names, passwords = fields.get("username", []), fields.get("password", [])
    if len(names) != 1 or len(passwords) != 1 or not names[0] or not passwords[0]:
        raise HTTPException(400, "give username and password, each once")
    return names[0], passwords[0]
