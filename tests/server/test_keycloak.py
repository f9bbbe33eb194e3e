"""Authentication by Keycloak: a small test realm signs tokens as Keycloak does.

No Keycloak runs here; this realm serves the three endpoints of Keycloak that MONAI Label uses.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from monailabel.client import MONAILabelClient

from ct2pet_app.auth.realm import MAX_AGE_S, MIN_REFETCH_INTERVAL_S
from ct2pet_app.auth.realm import Realm as KnownRealm
from lib.errors import RemoteError
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.server.processes import RunningServer, running_server

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # MONAILabelClient closes neither files nor sockets
]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
PUBLIC_ISSUER = "https://login.hospital.example/realms/hospital"  # the realm's URL for browsers
PASSWORD = "seven geese on a lake"
ROLES = {"una": ["monailabel-user"], "ada": ["monailabel-user", "monailabel-annotator", "monailabel-admin"]}


CLIENT = "monailabel-app"


class Realm:
    """The keys of a realm, and the tokens that it issues."""

    def __init__(self) -> None:
        self.uri = ""
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate("first")

    def rotate(self, key_id: str) -> None:
        """Sign with a new key from now on; keep publishing the earlier keys."""
        self.key_id, self.keys[key_id] = key_id, rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def certs(self) -> dict[str, Any]:
        public_keys = {
            name: jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) for name, key in self.keys.items()
        }
        return {"keys": [{**key, "kid": name, "use": "sig", "alg": "RS256"} for name, key in public_keys.items()]}

    @property
    def public_key(self) -> str:
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return base64.b64encode(self.keys[self.key_id].public_key().public_bytes(*form)).decode()

    def token(self, name: str, *, algorithm: str = "RS256", key_id: str = "", **changed: Any) -> str:
        """Return an access token as Keycloak issues it to the client, without the claims that are None."""
        key_id, now = key_id or self.key_id, int(time.time())
        claims = {"preferred_username": name, "exp": now + 300, "iat": now, "iss": self.uri, "typ": "Bearer"}
        claims |= {"aud": "account", "azp": CLIENT, "realm_access": {"roles": ROLES.get(name, [])}, **changed}
        kept = {claim: value for claim, value in claims.items() if value is not None}
        return jwt.encode(kept, self.keys[key_id], algorithm=algorithm, headers={"kid": key_id})


@pytest.fixture(scope="module")
def realm() -> Realm:
    return Realm()


@pytest.fixture(scope="module")
def realm_url(realm: Realm) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("openid-configuration"):
                self.respond(200, {"token_endpoint": f"{url}/token", "issuer": PUBLIC_ISSUER})
            elif self.path.endswith("/protocol/openid-connect/certs"):
                self.respond(200, realm.certs)
            else:
                self.respond(404, {})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if form["password"] != [PASSWORD] or form["client_id"] != [CLIENT]:
                self.respond(401, {"error": "invalid_grant"})
            else:
                self.respond(200, {"access_token": realm.token(form["username"][0]), "token_type": "Bearer"})

        def respond(self, status: int, content: dict[str, Any]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        realm.uri = url = f"http://127.0.0.1:{http.server_port}/realms/hospital"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield url
        http.shutdown()


@pytest.fixture(scope="module")
def server(realm_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    studies = tmp_path_factory.mktemp("studies")
    write_phantoms(studies, patients=1, settings=SMALL)
    variables = {"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": realm_url}
    folder = tmp_path_factory.mktemp("server")
    with running_server("ct2pet_app", studies, folder, variables=variables, models="unet") as running:
        yield running


def status(server: RunningServer, method: str, path: str, token: str) -> int:
    return replace(server, token=token).request(method, path).status_code


@pytest.mark.parametrize(
    ("method", "path", "user"),
    [
        ("GET", "/info/", 200),
        ("GET", "/datastore/", 200),
        ("GET", "/ct2pet/series", 200),
        ("POST", "/infer/none?image=none", 404),
        ("POST", "/ct2pet/dicom/none?image=none", 404),
        ("POST", "/train/none", 403),
        ("PUT", "/model/none", 403),
        ("POST", "/reload", 403),
        ("GET", "/logs/", 403),
    ],
)
def test_the_roles_of_the_realm_apply_to_all_endpoints(
    server: RunningServer, realm: Realm, method: str, path: str, user: int
) -> None:
    assert status(server, method, path, "") == 401
    assert status(server, method, path, realm.token("una")) == user
    assert status(server, method, path, realm.token("ada")) not in (401, 403)


def test_the_stock_client_logs_in_through_the_server(server: RunningServer, realm_url: str) -> None:
    client = MONAILabelClient(server.url)
    assert server.json("/auth/")["realm"] == realm_url
    assert client.auth_enabled()
    client.update_auth(client.auth_token("una", PASSWORD))
    assert client.auth_valid_token()
    assert client.info()["name"] == "ct2pet"


def test_a_wrong_password_is_401(server: RunningServer) -> None:
    response = server.log_in("una", "seven geese on a lane")
    assert (response.status_code, response.json()["detail"]) == (401, "wrong user name or password")


def test_a_user_without_roles_is_forbidden(server: RunningServer, realm: Realm) -> None:
    assert status(server, "GET", "/info/", realm.token("stranger", realm_access=None)) == 403


def hmac_with_the_public_key(realm: Realm) -> str:
    """Return a token signed by HMAC with the public key; libraries that trust the header of a token accept it."""
    pem = f"-----BEGIN PUBLIC KEY-----\n{realm.public_key}\n-----END PUBLIC KEY-----".encode()
    claims = jwt.decode(realm.token("ada"), options={"verify_signature": False})
    parts = ({"alg": "HS256", "typ": "JWT", "kid": realm.key_id}, claims)
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = hmac.digest(pem, text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def of_another_realm(realm: Realm) -> str:
    other = Realm()
    other.uri = realm.uri
    return other.token("ada")


NOW = int(time.time())
FORGED = {
    "expired": lambda realm: realm.token("ada", exp=int(time.time()) - 10),
    "without expiry": lambda realm: realm.token("ada", exp=None),
    "not yet valid": lambda realm: realm.token("ada", nbf=NOW + 3600),
    "issued in the future": lambda realm: realm.token("ada", iat=NOW + 86400, exp=NOW + 2 * 86400),
    "without a date": lambda realm: realm.token("ada", iat=None),
    "signed by another realm": of_another_realm,
    "of another issuer": lambda realm: realm.token("ada", iss=realm.uri.replace("hospital", "guests")),
    "of an issuer that begins alike": lambda realm: realm.token("ada", iss=f"{realm.uri}2"),
    "without an issuer": lambda realm: realm.token("ada", iss=None),
    "for another client": lambda realm: realm.token("ada", azp="portal"),
    "for another audience": lambda realm: realm.token("ada", azp=None, aud=["account", "portal"]),
    "without an audience": lambda realm: realm.token("ada", azp=None, aud=None),
    "an ID token": lambda realm: realm.token("ada", typ="ID", aud=CLIENT),
    "a refresh token": lambda realm: realm.token("ada", typ="Refresh"),
    "an offline token": lambda realm: realm.token("ada", typ="Offline"),
    "without a type": lambda realm: realm.token("ada", typ=None),
    "of an unknown key": lambda realm: jwt.encode({}, realm.keys["first"], "RS256", headers={"kid": "other"}),
    "without a key id": lambda realm: jwt.encode(
        jwt.decode(realm.token("ada"), options={"verify_signature": False}), realm.keys["first"], "RS256"
    ),
    "unsigned": lambda realm: jwt.encode({"exp": NOW + 300}, None, algorithm="none", headers={"kid": "first"}),
    "signed with the public key": hmac_with_the_public_key,
    "malformed": lambda realm: "malformed",
    "dots": lambda realm: "..",
    "not ASCII": lambda realm: "é.é.é",
    "huge": lambda realm: realm.token("ada", padding="x" * 20_000),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_token_that_the_realm_did_not_issue_for_this_server_is_refused(
    server: RunningServer, realm: Realm, forge: Any
) -> None:
    response = server.request("GET", "/info/", headers={"Authorization": f"Bearer {forge(realm)}".encode()})
    assert (response.status_code, response.json()["detail"]) == (401, "Could not validate credentials")


@pytest.mark.parametrize(
    "changed", [{"iss": PUBLIC_ISSUER}, {"azp": "viewer", "aud": ["account", CLIENT]}, {"azp": None, "aud": CLIENT}]
)
def test_the_public_issuer_and_this_server_as_audience_are_accepted(
    server: RunningServer, realm: Realm, changed: dict[str, Any]
) -> None:
    assert status(server, "GET", "/info/", realm.token("una", **changed)) == 200


def test_the_body_is_not_read_before_the_role_is_checked(server: RunningServer, realm: Realm) -> None:
    upload = {"headers": {"Content-Type": "multipart/form-data; boundary=x"}, "data": b"x" * 10_000_000}
    for token, expected in (("", 401), (realm.token("una"), 403)):
        response = replace(server, token=token).request("PUT", "/model/unet", **upload)
        assert (response.status_code, response.headers["Connection"]) == (expected, "close")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_new_key_is_fetched_and_unknown_key_ids_cause_few_requests(realm: Realm, realm_url: str) -> None:
    clock = Clock()
    known = KnownRealm(realm_url, timeout_s=10, clock=clock)
    assert known.key("first") is not None and known.key("second") is None
    realm.rotate("second")
    assert known.key("second") is None  # fetched a moment ago
    clock.now_s += MIN_REFETCH_INTERVAL_S
    assert known.key("second") is not None and known.key("first") is not None
    del realm.keys["first"]
    clock.now_s += MAX_AGE_S + 1
    assert known.key("second") is not None and known.key("first") is None


def test_keycloak_being_unreachable_is_an_error_and_fetched_keys_stay_valid(realm: Realm, realm_url: str) -> None:
    with pytest.raises(RemoteError, match="MONAI_LABEL_AUTH_REALM_URI"):
        KnownRealm("http://127.0.0.1:1/realms/none", timeout_s=1).key("first")
    clock = Clock()
    known = KnownRealm(realm_url, timeout_s=10, clock=clock)
    assert known.key(realm.key_id) is not None
    known._uri = "http://127.0.0.1:1/realms/none"
    clock.now_s += MAX_AGE_S + 1
    assert known.key(realm.key_id) is not None
