"""MONAI Label's own accounts in Keycloak, with our addresses: a small realm signs tokens as Keycloak does.

No Keycloak runs here; what MONAI Label asks of one is three addresses, and this realm answers them.
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

from lib.sources.phantom import PhantomSettings, write_phantoms
from tests.servers import RunningServer, running_server

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # MONAILabelClient closes neither files nor sockets
]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
PASSWORD = "seven geese on a lake"
ROLES = {"una": ["monailabel-user"], "ada": ["monailabel-user", "monailabel-annotator", "monailabel-admin"]}


class Realm:
    """A realm's key, and the tokens it gives."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def public_key(self) -> str:
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return base64.b64encode(self.key.public_key().public_bytes(*form)).decode()

    def token(self, name: str, *, algorithm: str = "RS256", **changed: Any) -> str:
        claims = {"preferred_username": name, "exp": int(time.time()) + 300, "aud": "account"}
        claims |= {"realm_access": {"roles": ROLES.get(name, [])}, **changed}
        return jwt.encode({key: value for key, value in claims.items() if value}, self.key, algorithm=algorithm)


@pytest.fixture(scope="module")
def realm() -> Realm:
    return Realm()


@pytest.fixture(scope="module")
def realm_url(realm: Realm) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("openid-configuration"):
                self.answer(200, {"token_endpoint": f"{url}/token"})
            else:
                self.answer(200, {"public_key": realm.public_key})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if form["password"] != [PASSWORD] or form["client_id"] != ["monailabel-app"]:
                self.answer(401, {"error": "invalid_grant"})
            else:
                self.answer(200, {"access_token": realm.token(form["username"][0]), "token_type": "Bearer"})

        def answer(self, status: int, told: dict[str, Any]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as http:
        url = f"http://127.0.0.1:{http.server_port}/realms/hospital"
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
    return replace(server, token=token).ask(method, path).status_code


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
def test_the_realms_roles_bind_stock_and_own_addresses(
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


def test_a_wrong_password_is_said_as_such(server: RunningServer) -> None:
    answer = server.log_in("una", "seven geese on a lane")
    assert (answer.status_code, answer.json()["detail"]) == (401, "wrong user name or password")


def test_who_has_no_role_may_nothing(server: RunningServer, realm: Realm) -> None:
    assert status(server, "GET", "/info/", realm.token("stranger", realm_access=None)) == 403


def hmac_with_the_public_key(realm: Realm) -> str:
    """A token by the public key as if it were a secret: libraries that believe a token's own header take it."""

    pem = f"-----BEGIN PUBLIC KEY-----\n{realm.public_key}\n-----END PUBLIC KEY-----".encode()
    parts = ({"alg": "HS256", "typ": "JWT"}, {"exp": int(time.time()) + 300, "realm_access": {"roles": ROLES["ada"]}})
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = hmac.digest(pem, text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


FORGED = {
    "expired": lambda realm: realm.token("ada", exp=int(time.time()) - 10),
    "for ever": lambda realm: realm.token("ada", exp=None),
    "of another realm": lambda realm: Realm().token("ada"),
    "unsigned": lambda realm: jwt.encode({"exp": int(time.time()) + 300}, None, algorithm="none"),
    "signed with the public key": hmac_with_the_public_key,
    "garbage": lambda realm: "garbage",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_token_that_the_realm_did_not_give_opens_nothing(server: RunningServer, realm: Realm, forge: Any) -> None:
    assert status(server, "GET", "/info/", forge(realm)) == 401
