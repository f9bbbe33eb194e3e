"""What a Keycloak realm publishes about itself: its issuer, its keys by key id, and where it logs in."""

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
MIN_REFETCH_INTERVAL_S = 10.0  # for tokens with an unknown key id, which anybody can make up; and after a failure
UNREACHABLE = "Keycloak does not give the keys of its realm; MONAI_LABEL_AUTH_REALM_URI says where"


class Realm:
    """A realm, fetched when it is first needed and again when its keys may have changed.

    Args:
        uri: Such as `https://keycloak.example/realms/hospital`.
        timeout_s: Of one request to Keycloak.
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
        """Return the public key of that id; None if the realm has none.

        Raises:
            RemoteError: Keycloak has never answered.
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
        """What may stand in `iss`: the URI of the settings, and the public one where the realm names another."""
        return [self._uri, *({str(self._configuration["issuer"])} if "issuer" in self._configuration else ())]

    def token_endpoint(self) -> str:
        """Return where the realm logs in.

        Raises:
            RemoteError: Keycloak has never answered.
        """
        self.key("")
        return str(self._configuration.get("token_endpoint") or f"{self._uri}/protocol/openid-connect/token")

    def _fetch(self) -> None:
        self._tried_s = self._clock()
        try:
            configuration = self._get("/.well-known/openid-configuration")
            found = jwt.PyJWKSet.from_dict(self._get("/protocol/openid-connect/certs"))
        except (requests.RequestException, jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
            logger.warning("the realm cannot be read: %s", type(error).__name__)  # what is known of it stays
            return
        keys = [key for key in found.keys if key.key_type == "RSA" and key.public_key_use in (None, "sig")]
        self._keys = {str(key.key_id): key for key in keys}
        self._configuration, self._fetched_s = configuration, self._clock()

    def _get(self, path: str) -> dict[str, Any]:
        response = requests.get(f"{self._uri}{path}", timeout=self._timeout_s, allow_redirects=False)
        response.raise_for_status()
        found = response.json()
        if not isinstance(found, dict):
            raise TypeError(f"{path} is no JSON object")
        return found
