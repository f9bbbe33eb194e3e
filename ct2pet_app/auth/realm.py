"""The metadata of a Keycloak realm: its issuer, its public keys by key id, and its token endpoint."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import requests

from lib.errors import RemoteError

logger = logging.getLogger(__name__)

MAX_AGE_S = 600.0  # of the keys; a key that the realm has withdrawn is refused after that time
MIN_REFETCH_INTERVAL_S = 10.0  # for tokens with an unknown key id, which anyone can send; and after a failure
UNREACHABLE = "the keys of the Keycloak realm cannot be fetched; check MONAI_LABEL_AUTH_REALM_URI"


class Realm:
    """A realm, fetched on first use and again when its keys may have changed.

    Args:
        uri: Such as `https://keycloak.example/realms/hospital`.
        timeout_s: Of each request to Keycloak.
        clock: Seconds, monotonic.
    """

    def __init__(self, uri: str, *, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._uri = uri.rstrip("/")
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._tried_s = -MAX_AGE_S
        self._fetched_s: float | None = None
        self._keys: dict[str, jwt.PyJWK] = {}
        self._configuration: dict[str, Any] = {}

    def key(self, key_id: str) -> jwt.PyJWK | None:
        """Return the public key with that id; None if the realm has no such key.

        Raises:
            RemoteError: No fetch has succeeded so far.
        """
        with self._lock:
            is_old = self._fetched_s is None or self._clock() - self._fetched_s > MAX_AGE_S
            if (is_old or key_id not in self._keys) and self._clock() - self._tried_s >= MIN_REFETCH_INTERVAL_S:
                self._fetch()
            if self._fetched_s is None:
                raise RemoteError(UNREACHABLE, code="keycloak_unavailable")
            return self._keys.get(key_id)

    @property
    def issuers(self) -> list[str]:
        """Valid values of the claim `iss`: the URI of the settings, and the public one if the realm has another."""
        return [self._uri, *({str(self._configuration["issuer"])} if "issuer" in self._configuration else ())]

    def token_endpoint(self) -> str:
        """Return the URL that issues tokens for passwords.

        Raises:
            RemoteError: No fetch has succeeded so far.
        """
        self.key("")
        return str(self._configuration.get("token_endpoint") or f"{self._uri}/protocol/openid-connect/token")

    def _fetch(self) -> None:
        self._tried_s = self._clock()
        try:
            configuration = self._get("/.well-known/openid-configuration")
            found = jwt.PyJWKSet.from_dict(self._get("/protocol/openid-connect/certs"))
        except (requests.RequestException, jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
            logger.warning("the realm cannot be fetched: %s", type(error).__name__)  # keys fetched earlier stay valid
            return
        keys = [key for key in found.keys if key.key_type == "RSA" and key.public_key_use in (None, "sig")]
        self._keys = {str(key.key_id): key for key in keys}
        self._configuration, self._fetched_s = configuration, self._clock()

    def _get(self, path: str) -> dict[str, Any]:
        response = requests.get(f"{self._uri}{path}", timeout=self._timeout_s, allow_redirects=False)
        response.raise_for_status()
        found = response.json()
        if not isinstance(found, dict):
            raise TypeError(f"{path} is not a JSON object")
        return found
