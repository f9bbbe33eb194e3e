"""MONAI Label's own accounts, in Keycloak, made to work with the PyJWT that it installs.

MONAI Label 0.8.5 decodes a realm's token without saying which algorithms it takes; PyJWT 2 then refuses every token. It
also asks Keycloak on the thread on which the server answers, and shows a wrong password as a fault of the server.
"""

from __future__ import annotations

import logging
from typing import Any

import jwt
import requests
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.endpoints.user.auth import User, get_public_key, oauth2_scheme, token_uri

from ct2pet_app.server.guarded_route import GuardedRoute
from lib.errors import RemoteError

logger = logging.getLogger(__name__)

# signatures with the realm's private key; never HS256, with which its public key would sign
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def keycloak_user(token: str = Depends(oauth2_scheme)) -> User:
    """Return who asks, in the place of MONAI Label's `get_current_user`.

    Raises:
        RemoteError: Keycloak does not tell its key.
    """
    try:
        key = get_public_key(settings.MONAI_LABEL_AUTH_REALM_URI)
    except (requests.RequestException, KeyError) as error:
        raise RemoteError(
            "Keycloak does not tell the key of its realm; MONAI_LABEL_AUTH_REALM_URI says where"
        ) from error
    options: Any = {"verify_aud": False, "require": ["exp"]}
    try:
        payload = jwt.decode(token, key, algorithms=ALGORITHMS, options=options)
    except jwt.InvalidTokenError as error:
        logger.info("token refused: %s", error)
        raise HTTPException(401, "Could not validate credentials", CHALLENGE) from error
    name = payload.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME)
    return User(
        username=str(name or payload.get("sub") or "unknown"),
        email=payload.get(settings.MONAI_LABEL_AUTH_TOKEN_EMAIL),
        name=payload.get(settings.MONAI_LABEL_AUTH_TOKEN_NAME),
        roles=_roles(payload),
    )


async def keycloak_authentication(request: Request) -> User:
    """Return who sends a request, before its body is read."""
    return await run_in_threadpool(keycloak_user, await oauth2_scheme(request) or "")


def keycloak_routes() -> APIRouter:
    """Return the address that logs in, in a thread, with Keycloak's refusal told as such."""
    router = APIRouter(prefix="/auth", route_class=GuardedRoute)
    router.add_api_route("/token", _token, methods=["POST"], include_in_schema=False)
    return router


def _token(form: OAuth2PasswordRequestForm = Depends()) -> Any:
    asked = {
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "username": form.username,
        "password": form.password,
        "grant_type": "password",
    }
    try:
        answer = requests.post(token_uri(), data=asked, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        told = answer.json()
    except requests.RequestException as error:
        raise RemoteError("Keycloak does not answer; MONAI_LABEL_AUTH_REALM_URI says where it is asked") from error
    if answer.status_code in (400, 401):
        raise HTTPException(401, "wrong user name or password", CHALLENGE)
    if not answer.ok or not isinstance(told, dict):
        raise RemoteError(f"Keycloak gives no token (status {answer.status_code})")
    return told


def _roles(payload: dict[str, Any]) -> list[str]:
    roles: Any = payload
    for key in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        roles = roles.get(key) if isinstance(roles, dict) else None
    return [str(role) for role in roles] if isinstance(roles, list) else []
