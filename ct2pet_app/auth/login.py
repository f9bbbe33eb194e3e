"""Login endpoints under MONAI Label's own contract, which its client and its stock Slicer module expect."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user.auth import User

from ct2pet_app.auth.dependencies import accounts_unavailable, authenticated_user
from ct2pet_app.auth.login_throttle import LoginThrottle, TooManyAttemptsError
from ct2pet_app.auth.models import LoginSettings, Token
from ct2pet_app.auth.tokens import Tokens
from ct2pet_app.auth.user_store import UserStore
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from lib.accounts import verify_password
from lib.errors import AccountsError

logger = logging.getLogger(__name__)

MAX_FORM_BYTES = 16 * 1024
MAX_CONCURRENT_CHECKS = 2  # each occupies one core for a quarter of a second, and 32 MiB
MAX_PENDING_CHECKS = 50  # running and waiting
LOGIN_FORM = {  # for OpenAPI: the form is parsed here, under a limit of its own
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


def auth_routes(users: UserStore, tokens: Tokens, throttle: LoginThrottle) -> APIRouter:
    """Return the login endpoints."""
    router = APIRouter(route_class=GuardedRoute, prefix="/auth", tags=["Auth"])
    router.add_api_route("/", _enabled, methods=["GET"], response_model=LoginSettings)
    token = _Login(users, tokens, throttle).token
    router.add_api_route("/token", token, methods=["POST"], response_model=Token, openapi_extra=LOGIN_FORM)
    router.add_api_route("/token/valid", _valid, methods=["GET"], response_model=User)
    return router


def _enabled() -> dict[str, Any]:
    """Whether this server requires a token."""
    return {"enabled": True, "client_id": monailabel_settings.MONAI_LABEL_AUTH_CLIENT_ID, "realm": "ct2pet"}


def _valid(user: User = Depends(authenticated_user)) -> dict[str, Any]:
    """The user of this token."""
    return dict(user.model_dump())


class _Login:
    """Verifies passwords, few at a time: hashing is slow by design, and must not occupy all cores."""

    def __init__(self, users: UserStore, tokens: Tokens, throttle: LoginThrottle) -> None:
        self._users, self._tokens, self._throttle = users, tokens, throttle
        self._limiter, self._pending = anyio.CapacityLimiter(MAX_CONCURRENT_CHECKS), 0

    async def token(self, request: Request) -> JSONResponse:
        """A token for a user name and a password (OAuth2 password form)."""
        name, password = await _name_and_password(request)
        client = request.client.host if request.client else ""
        try:
            account = self._users.accounts().get(name)
        except AccountsError as error:
            raise accounts_unavailable(error) from error
        if self._pending >= MAX_PENDING_CHECKS:
            raise HTTPException(503, "too many logins at the same time; try again", {"Retry-After": "5"})
        try:
            self._throttle.begin(client, name)
        except TooManyAttemptsError as error:
            raise HTTPException(429, str(error), {"Retry-After": str(error.wait_s)}) from error
        self._pending += 1
        try:
            matches = await anyio.to_thread.run_sync(verify_password, account, password, limiter=self._limiter)
        finally:
            self._pending -= 1
        if account is None or not matches:
            # an unknown name is not logged: it may be a password in the wrong field
            logger.warning("wrong password from %s for %s", client, name if account else "an unknown name")
            raise HTTPException(401, "wrong user name or password", {"WWW-Authenticate": "Bearer"})
        self._throttle.succeed(client, name)
        logger.info("%s logged in from %s", name, client)
        token = self._tokens.issue(account)
        response = {"access_token": token, "token_type": "bearer", "expires_in": self._tokens.lifetime_s}
        return JSONResponse(response, headers={"Cache-Control": "no-store"})


async def _name_and_password(request: Request) -> tuple[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send username and password as a form (application/x-www-form-urlencoded)")
    form = bytearray()
    async for chunk in request.stream():
        form += chunk
        if len(form) > MAX_FORM_BYTES:
            raise HTTPException(413, f"the login form exceeds {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(form.decode("utf-8"), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise HTTPException(400, "the login form cannot be parsed") from error
    if fields.get("grant_type", ["password"]) != ["password"]:
        raise HTTPException(400, "grant_type: only password is supported")
    names, passwords = fields.get("username", []), fields.get("password", [])
    if len(names) != 1 or len(passwords) != 1 or not names[0] or not passwords[0]:
        raise HTTPException(400, "expected username and password, each exactly once")
    return names[0], passwords[0]
