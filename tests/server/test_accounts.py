"""The real server with accounts and TLS: the role that each endpoint requires, and MONAI Label's own client."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from monailabel.client import MONAILabelClient

from ct2pet_app.auth.setup import KEY_FILE
from ct2pet_app.auth.tokens import Tokens, signing_key
from lib.accounts import read_accounts, write_accounts
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.documents.commands import ROOT, commands_of
from tests.server.endpoints import ENDPOINTS, RANK
from tests.server.processes import PASSWORD, USERS, RunningServer, environment, running_server, write_users

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # MONAILabelClient closes neither files nor sockets
]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
SHORT_RUN = "pixel_mm=8.0;depth=1;context_slices=1;normalization=none;epochs=1;patience=0;validation=0.0;test=0.0"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ct2pet -addext subjectAltName=IP:127.0.0.1"
    command = [*made.split(), "-out", "server.crt", "-keyout", "server.key"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "server.key").chmod(0o600)
    return folder / "server.crt", folder / "server.key"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_users(tmp_path_factory.mktemp("users"), {**USERS, "gone": "admin", "renewed": "admin"})


@pytest.fixture(scope="module")
def server(
    certificate: tuple[Path, Path], users: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """The server without a token; `server.logged_in_as(name)` is the same with the token of a user."""
    studies = tmp_path_factory.mktemp("studies")
    write_phantoms(studies, patients=2, settings=SMALL)
    conf = {"models": "unet", "width": "2", "set": SHORT_RUN, "users": str(users)}
    with running_server("ct2pet_app", studies, tmp_path_factory.mktemp("server"), tls=certificate, **conf) as running:
        yield running


@pytest.fixture(scope="module")
def clients(server: RunningServer) -> dict[str, RunningServer]:
    """The server with the token of one user per role."""
    return {role: server.logged_in_as(name) for name, role in USERS.items()}


@pytest.fixture(scope="module")
def invalid_clients(server: RunningServer, users: Path, clients: dict[str, RunningServer]) -> dict[str, RunningServer]:
    """The server with invalid tokens, by the reason for refusal."""
    expired = Tokens(signing_key(server.models / KEY_FILE), lifetime_s=-1).issue(read_accounts(users)["ada"])
    gone, renewed = server.logged_in_as("gone"), server.logged_in_as("renewed")
    accounts = read_accounts(users)
    ada = accounts.pop("gone") and accounts["ada"]
    accounts["renewed"] = replace(ada, name="renewed", password=replace(ada.password, salt=b"another 16 bytes"))
    write_accounts(users, accounts)
    return {
        "no token": server,
        "malformed": replace(server, token="malformed"),
        "forged": replace(server, token=f"{clients['admin'].token[:-4]}AAAA"),
        "expired": replace(server, token=expired),
        "of an earlier version": replace(server, token="ct2pet1.eyJuYW1lIjoiYWRhIn0.AAAA"),
        "removed": gone,
        "new password": renewed,
    }


@pytest.fixture(scope="module")
def ct_uid(clients: dict[str, RunningServer], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CT of the datastore; the server has a model for it."""
    model = save_constant_model(tmp_path_factory.mktemp("model") / "unet.safetensors", 2.5, stages=1)
    response = clients["admin"].request("PUT", "/model/unet", files={"file": model.read_bytes()})
    assert response.status_code == 200, response.text
    return str(next(iter(clients["user"].json("/datastore/?output=all")["objects"])))


@pytest.fixture
def stock_client(
    server: RunningServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Return a function that creates a client and logs in, as the stock Slicer module does before each request."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))

    def logged_in(name: str) -> MONAILabelClient:
        client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
        assert client.auth_enabled()
        client.update_auth(client.auth_token(name, PASSWORD))
        assert client.auth_valid_token()
        return client

    return logged_in


def send_invalid_request(server: RunningServer, method: str, path: str) -> requests.Response:
    """Send a request without a file and with a body that no endpoint accepts, so that it changes nothing."""
    body = {"data": b"0", "headers": {"Content-Type": "application/json"}} if method in ("POST", "PUT") else {}
    return server.request(method, path, allow_redirects=False, **body)


@pytest.mark.parametrize(("method", "path", "required_role"), ENDPOINTS)
def test_each_endpoint_requires_its_role(
    clients: dict[str, RunningServer],
    invalid_clients: dict[str, RunningServer],
    method: str,
    path: str,
    required_role: str,
) -> None:
    statuses = {role: send_invalid_request(client, method, path).status_code for role, client in clients.items()}
    for role, status in statuses.items():
        assert (status == 403) == (RANK[role] < RANK[required_role]), statuses
        assert status != 401, statuses
    for why, client in invalid_clients.items():
        response = send_invalid_request(client, method, path)
        assert response.status_code == 401, why
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_table_has_every_endpoint_of_monai_label() -> None:
    names = "activelearning batch_infer datastore infer info logs model ohif proxy scoring session train wsi_infer"
    modules = [importlib.import_module(f"monailabel.endpoints.{name}") for name in names.split()]
    routes = [route for module in modules for route in module.router.routes]
    assert len(routes) > 50
    for route in routes:
        rows = [path for method, path, _ in ENDPOINTS if method in route.methods]
        assert any(route.path_regex.match(path.partition("?")[0]) for path in rows), f"{route.methods} {route.path}"


def test_no_endpoint_of_the_openapi_description_is_public(
    server: RunningServer, clients: dict[str, RunningServer]
) -> None:
    routes = clients["admin"].json("/openapi.json")["paths"]
    assert "/ct2pet/series" in routes
    for path, methods in routes.items():
        template = re.compile(re.sub(r"{\w+}", "[^/]+", path))
        for method in methods:
            rows = [row for verb, row, _ in ENDPOINTS if verb == method.upper() and path.startswith("/ct2pet/")]
            listed = any(template.fullmatch(row.partition("?")[0]) for row in rows)
            assert listed or not path.startswith("/ct2pet/"), f"give {method} {path} a row in tests/server/endpoints.py"
            if (method, path) not in {("get", "/auth/"), ("post", "/auth/token")}:
                assert (
                    send_invalid_request(server, method.upper(), path.replace("{", "").replace("}", "")).status_code
                    == 401
                ), path


@pytest.mark.parametrize(
    "path", ["/auth", "//auth/", "/auth//", "/auth/../info/", "/auth/%2e%2e/info/", "/auth/;/info/"]
)
def test_a_path_that_resembles_the_login_requires_a_token(server: RunningServer, path: str) -> None:
    port = int(server.url.rpartition(":")[2])
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{port}"]
    response = subprocess.run(command, input=request.encode(), capture_output=True, timeout=60)
    assert response.stdout.startswith(b"HTTP/1.1 401 ")


def test_a_refusal_states_the_reason(
    clients: dict[str, RunningServer], invalid_clients: dict[str, RunningServer]
) -> None:
    assert "monailabel-admin" in send_invalid_request(clients["user"], "POST", "/train/unet").json()["detail"]
    details = {
        why: send_invalid_request(client, "GET", "/info/").json()["detail"] for why, client in invalid_clients.items()
    }
    assert details["no token"].startswith("log in first: POST /auth/token with username and password")
    assert details["malformed"].startswith("this token was not issued by this server; log in again")
    assert details["expired"].startswith("this token has expired; log in again")
    assert details["removed"].startswith("this token's account was removed, or its password changed; log in again")


def test_the_stock_client_works_as_before(stock_client, ct_uid: str, tmp_path: Path) -> None:
    assert set(stock_client("una").info()["models"]) == {"unet"}
    assert ct_uid in stock_client("una").datastore()["objects"]
    assert stock_client("una").next_sample("random", {}) == {}  # every CT has its PET
    path, metadata = stock_client("una").infer("unet", ct_uid, {"result_extension": ".nrrd", "result_dtype": "uint8"})
    assert Path(path).stat().st_size > 0
    assert metadata["suv"]["mean"] == pytest.approx(2.5, rel=1e-2)
    reused = stock_client("una")  # it sends the Content-Length of its last upload again with the next request
    reused.infer("unet", ct_uid, {})
    assert reused.info()["name"] == "ct2pet"
    assert reused.train_status(check_if_running=True) is False
    with pytest.raises(Exception, match="monailabel-admin"):
        stock_client("una").train_start("unet", {})


def test_the_stock_clients_sessions_and_uploads_work(
    clients: dict[str, RunningServer], stock_client, ct_uid: str, tmp_path: Path
) -> None:
    upload = tmp_path / "Thorax.nrrd"
    upload.write_bytes(clients["user"].request("GET", f"/datastore/image?image={ct_uid}").content)
    session = stock_client("una").create_session(str(upload))["session_id"]
    assert stock_client("una").infer("unet", "", {}, session_id=session)[0]
    assert stock_client("ann").upload_image(str(upload), "Thorax") == {"image": "Thorax"}


def test_the_commands_of_the_guide_log_in(server: RunningServer, certificate: tuple[Path, Path]) -> None:
    login = [
        one.text
        for one in commands_of(ROOT / "docs" / "guide" / "accounts.md")
        if re.match("server=|read|TOKEN|curl --cacert", one.text)
    ]
    script = "\n".join(["set -euo pipefail", *login])
    assert script.count("curl") == 2
    for documented, real in (("https://ct2pet.hospital.example:8000", server.url), ("ca.crt", str(certificate[0]))):
        script = script.replace(documented, real)
    shell = ["bash", "-c", script.replace("curl", "curl -sSf")]
    done = subprocess.run(shell, input=f"{PASSWORD}\n", env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"]


def test_a_wrong_password_and_an_unknown_name_get_the_same_response(server: RunningServer) -> None:
    wrong, unknown = server.log_in("ada", "seven geese on a lane"), server.log_in("unknown")
    assert (wrong.status_code, wrong.json()) == (unknown.status_code, unknown.json())
    assert wrong.json()["detail"] == "wrong user name or password"


def test_a_login_returns_the_lifetime_of_its_token(server: RunningServer) -> None:
    response = server.log_in("ada")
    assert (response.json()["token_type"], response.json()["expires_in"]) == ("bearer", 12 * 3600)
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        ({"json": {"username": "ada", "password": PASSWORD}}, 415, "send username and password as a form"),
        ({"data": {"username": "ada"}}, 400, "expected username and password, each exactly once"),
        ({"data": {"username": ["ada", "una"], "password": PASSWORD}}, 400, "each exactly once"),
        ({"data": {"username": "ada", "password": PASSWORD, "grant_type": "magic"}}, 400, "grant_type: only password"),
        ({"data": {"username": "ada", "password": "x" * 20_000}}, 413, "the login form exceeds 16384 bytes"),
        ({"data": {str(number): "" for number in range(50)}}, 400, "cannot be parsed"),
    ],
)
def test_an_invalid_login_form_is_refused(
    server: RunningServer, sent: dict[str, object], status: int, message: str
) -> None:
    response = server.request("POST", "/auth/token", **sent)
    assert response.status_code == status
    assert message in response.text


def test_a_client_that_guesses_passwords_is_throttled(server: RunningServer) -> None:
    responses: list[requests.Response] = []
    guesses = [
        threading.Thread(target=lambda: responses.append(server.log_in("guessed", "seven geese on a lane")))
        for _ in range(20)
    ]
    for guess in guesses:
        guess.start()
    for guess in guesses:
        guess.join()
    assert {response.status_code for response in responses} == {401, 429}
    refused = next(response for response in responses if response.status_code == 429)
    assert "too many wrong passwords: try again in" in refused.json()["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 5
    assert server.log_in("ada").status_code == 200


def test_no_request_is_authorized_while_other_users_can_read_the_users_file(
    server: RunningServer, clients: dict[str, RunningServer], users: Path
) -> None:
    users.chmod(0o644)
    try:
        responses = [send_invalid_request(clients["admin"], "GET", "/info/"), server.log_in("ada")]
    finally:
        users.chmod(0o600)
    for response in responses:
        assert response.status_code == 503
        assert "its log has the reason" in response.json()["detail"]
        assert str(users) not in response.text
    assert f"chmod 600 {users}" in server.log.read_text()
    assert send_invalid_request(clients["admin"], "GET", "/info/").status_code == 200


def test_background_tasks_need_no_account_of_their_own(clients: dict[str, RunningServer], ct_uid: str) -> None:
    admin = clients["admin"]
    assert admin.request("POST", "/train/unet", json={"max_epochs": 1, "publish": "always"}).status_code == 200
    task = admin.wait_for_training(timeout_s=240)
    assert task["status"] == "DONE", task
    assert admin.request("POST", "/batch/infer/unet", json={}).status_code == 200


def test_connections_without_tls_or_with_an_unknown_authority_fail(server: RunningServer) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url.replace("https://", "http://") + "/auth/", timeout=60)
    with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
        requests.get(f"{server.url}/auth/", timeout=60)


def test_neither_passwords_nor_tokens_are_logged(server: RunningServer, clients: dict[str, RunningServer]) -> None:
    log = server.log.read_text()
    assert "ada logged in from 127.0.0.1" in log
    assert "wrong password from 127.0.0.1 for an unknown name" in log
    for secret in (PASSWORD, "seven geese", *(client.token for client in clients.values())):
        assert secret not in log
