"""Authentication by Keycloak, MONAI Label's own accounts.

Replaces MONAI Label 0.8.5's implementation, which passes no algorithms to PyJWT, so that PyJWT 2 refuses every token,
sends requests to Keycloak on the event loop, and reports a wrong password as a server error.
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

# asymmetric only: with HS256, anyone could sign with the realm's public key
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CHALLENGE = {"WWW-Authenticate": "Bearer"}
ACCESS_TOKEN = "Bearer"  # Keycloak's claim `typ`; others are ID, Refresh, Offline, Logout
LEEWAY_S = 5  # between the clocks of two machines
MAX_TOKEN_LENGTH = 16_384


@functools.cache
def configured_realm() -> Realm:
    """Return the realm of the settings; one instance for the server, because it caches the keys."""
    return Realm(settings.MONAI_LABEL_AUTH_REALM_URI, timeout_s=settings.MONAI_LABEL_AUTH_TIMEOUT)


def keycloak_user(token: str = Depends(oauth2_scheme)) -> User:
    """Return the caller; replaces MONAI Label's `get_current_user`.

    Raises:
        HTTPException: 401, the token is not a valid access token that the realm issued for this server.
        RemoteError: The keys of the realm cannot be fetched.
    """
    try:
        payload = verified_claims(token, configured_realm())
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

    A realm signs the tokens of all its clients, and ID tokens as well as access tokens, with the same key: a valid
    signature alone does not show the purpose of a token.

    Raises:
        jwt.InvalidTokenError: Not signed by the realm, another issuer, expired or not yet valid, not an access token,
            or issued to another client without this one in its audience.
        RemoteError: The keys of the realm cannot be fetched.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise jwt.DecodeError("too long")
    key_id = jwt.get_unverified_header(token).get("kid")
    key = realm.key(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise jwt.InvalidTokenError("unknown key id")
    options: Any = {"verify_aud": False, "require": ["exp", "iat", "iss"]}  # the audience is checked below
    claims: dict[str, Any] = jwt.decode(
        token, key.key, algorithms=ALGORITHMS, options=options, issuer=realm.issuers, leeway=LEEWAY_S
    )
    if claims.get("typ") != ACCESS_TOKEN:
        raise jwt.InvalidTokenError("not an access token")
    audience = claims.get("aud", [])
    client = settings.MONAI_LABEL_AUTH_CLIENT_ID
    if claims.get("azp") != client and client not in (audience if isinstance(audience, list) else [audience]):
        raise jwt.InvalidAudienceError("issued for another client")
    return claims


def _text(claim: object) -> str | None:
    return claim if isinstance(claim, str) else None


async def keycloak_authentication(request: Request) -> User:
    """Return the caller before the body of the request is read."""
    return await run_in_threadpool(keycloak_user, await oauth2_scheme(request) or "")


def keycloak_routes() -> APIRouter:
    """Return the login endpoint, which forwards to Keycloak."""
    router = APIRouter(prefix="/auth", route_class=GuardedRoute)
    router.add_api_route("/token", _token, methods=["POST"], include_in_schema=False)
    return router


def _token(form: OAuth2PasswordRequestForm = Depends()) -> Any:
    credentials = {
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "username": form.username,
        "password": form.password,
        "grant_type": "password",
    }
    try:
        response = requests.post(
            configured_realm().token_endpoint(),
            data=credentials,
            timeout=settings.MONAI_LABEL_AUTH_TIMEOUT,
            allow_redirects=False,
        )
        token = response.json()
    except requests.RequestException as error:
        raise RemoteError(
            "Keycloak does not respond; check MONAI_LABEL_AUTH_REALM_URI", code="keycloak_unavailable"
        ) from error
    if response.status_code in (400, 401):
        raise HTTPException(401, "wrong user name or password", CHALLENGE)
    if not response.ok or not isinstance(token, dict):
        raise RemoteError(f"Keycloak returns no token (status {response.status_code})", code="keycloak_unavailable")
    return token


def _roles(payload: dict[str, Any]) -> list[str]:
    roles: Any = payload
    for key in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        roles = roles.get(key) if isinstance(roles, dict) else None
    return [str(role) for role in roles] if isinstance(roles, list) else []
