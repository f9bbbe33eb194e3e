"""MONAI Label's own accounts, in Keycloak, made to work with the PyJWT that it installs.

MONAI Label 0.8.5 decodes a realm's token without saying which algorithms it takes; PyJWT 2 then refuses every token. It
also asks Keycloak on the thread on which the server answers, and shows a wrong password as a fault of the server.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import jwt
import requests
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.endpoints.user.auth import User, oauth2_scheme

from ct2pet_app.auth.realm import Realm
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from lib.errors import RemoteError

logger = logging.getLogger(__name__)

# signatures with the realm's private key; never HS256, with which its public key would sign
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CHALLENGE = {"WWW-Authenticate": "Bearer"}
ACCESS_TOKEN = "Bearer"  # Keycloak's claim `typ`; others are ID, Refresh, Offline, Logout
LEEWAY_S = 5  # between the clocks of two machines
MAX_TOKEN_LENGTH = 16_384


@functools.lru_cache(maxsize=1)
def the_realm(uri: str) -> Realm:
    """Return the realm of the settings; one for the whole server, since it holds the keys."""
    return Realm(uri, timeout_s=settings.MONAI_LABEL_AUTH_TIMEOUT)


def keycloak_user(token: str = Depends(oauth2_scheme)) -> User:
    """Return who sends a request, in the place of MONAI Label's `get_current_user`.

    Raises:
        HTTPException: 401, the token is no valid access token that the realm issued for this server.
        RemoteError: Keycloak does not give its keys.
    """
    try:
        payload = verified_claims(token, the_realm(settings.MONAI_LABEL_AUTH_REALM_URI))
    except (jwt.PyJWTError, UnicodeError, RecursionError) as error:
        logger.info("token refused: %s", type(error).__name__)
        raise HTTPException(401, "Could not validate credentials", CHALLENGE) from error
    name = payload.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME)
    return User(
        username=str(name or payload.get("sub") or "unknown"),
        email=_text(payload.get(settings.MONAI_LABEL_AUTH_TOKEN_EMAIL)),
        name=_text(payload.get(settings.MONAI_LABEL_AUTH_TOKEN_NAME)),
        roles=_roles(payload),
    )


def verified_claims(token: str, realm: Realm) -> dict[str, Any]:
    """Return the claims of an access token.

    A realm signs with one key for all of its clients, and ID tokens as well as access tokens: the signature alone says
    nothing about what a token is for.

    Raises:
        jwt.InvalidTokenError: Not signed by the realm, of another issuer, expired or not yet valid, no access token, or
            issued to another client and not meant for this one.
        RemoteError: Keycloak does not give its keys.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise jwt.DecodeError("too long")
    key_id = jwt.get_unverified_header(token).get("kid")
    key = realm.key(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise jwt.InvalidTokenError("the realm has no such key")
    options: Any = {"verify_aud": False, "require": ["exp", "iat", "iss"]}  # the audience is checked below
    claims: dict[str, Any] = jwt.decode(
        token, key.key, algorithms=ALGORITHMS, options=options, issuer=realm.issuers, leeway=LEEWAY_S
    )
    if claims.get("typ") != ACCESS_TOKEN:
        raise jwt.InvalidTokenError("no access token")
    audience = claims.get("aud", [])
    client = settings.MONAI_LABEL_AUTH_CLIENT_ID
    if claims.get("azp") != client and client not in (audience if isinstance(audience, list) else [audience]):
        raise jwt.InvalidAudienceError("issued for another client")
    return claims


def _text(claim: object) -> str | None:
    return claim if isinstance(claim, str) else None


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
        answer = requests.post(
            the_realm(settings.MONAI_LABEL_AUTH_REALM_URI).token_endpoint(),
            data=asked,
            timeout=settings.MONAI_LABEL_AUTH_TIMEOUT,
            allow_redirects=False,
        )
        told = answer.json()
    except requests.RequestException as error:
        raise RemoteError(
            "Keycloak does not answer; MONAI_LABEL_AUTH_REALM_URI says where it is asked", code="keycloak_unavailable"
        ) from error
    if answer.status_code in (400, 401):
        raise HTTPException(401, "wrong user name or password", CHALLENGE)
    if not answer.ok or not isinstance(told, dict):
        raise RemoteError(f"Keycloak gives no token (status {answer.status_code})", code="keycloak_unavailable")
    return told


def _roles(payload: dict[str, Any]) -> list[str]:
    roles: Any = payload
    for key in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        roles = roles.get(key) if isinstance(roles, dict) else None
    return [str(role) for role in roles] if isinstance(roles, list) else []
