"""Which account settings the server accepts, and with which it refuses to start."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints.user import auth as stock_auth

from ct2pet_app.auth.login_throttle import LoginThrottle
from ct2pet_app.auth.permissions import ADMIN, USER
from ct2pet_app.auth.setup import install_accounts
from ct2pet_app.server.monai_label import guard
from ct2pet_app.settings import AppSettings
from lib.errors import InputError, OutputError
from tests.server.processes import PASSWORD, write_users

Install = Callable[..., FastAPI]


def send_request(server: FastAPI, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Return the response of an application in this process."""

    async def respond() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **arguments)

    return asyncio.run(respond())


def log_in(server: FastAPI, name: str = "una", password: str = PASSWORD) -> httpx.Response:
    return send_request(server, "POST", "/auth/token", data={"username": name, "password": password})


def bearer(server: FastAPI, name: str = "una") -> dict[str, str]:
    return {"Authorization": f"Bearer {log_in(server, name).json()['access_token']}"}


def statuses(server: FastAPI, **arguments: Any) -> list[int]:
    return [send_request(server, "GET", path, **arguments).status_code for path in ("/user", "/admin", "/forgotten")]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that sets up authentication in an application; its keywords are `--conf` settings."""
    monkeypatch.setattr(stock_auth, "settings", monailabel_settings)

    def set_up(**conf: str) -> FastAPI:
        server, router = FastAPI(), APIRouter()
        router.add_api_route("/user", lambda: "done", methods=["GET"], dependencies=[USER])
        router.add_api_route("/admin", lambda: "done", methods=["GET"], dependencies=[ADMIN])
        router.add_api_route("/forgotten", lambda: "done", methods=["GET"])
        server.include_router(router)
        settings = AppSettings.from_conf(
            {"models_folder": str(tmp_path / "models"), "models": "unet", **conf}, app_folder=tmp_path
        )
        install_accounts(server, settings, studies=str(tmp_path / "studies"))
        return server

    return set_up


def test_without_accounts_every_request_is_authorized(install: Install, tmp_path: Path) -> None:
    assert statuses(install()) == [200, 200, 200]
    assert not (tmp_path / "models").exists()


def test_with_accounts_an_endpoint_without_a_role_is_for_users(install: Install, tmp_path: Path) -> None:
    server = install(users=str(write_users(tmp_path)))
    assert statuses(server) == [401, 401, 401]
    assert statuses(server, headers=bearer(server, "una")) == [200, 403, 200]
    assert statuses(server, headers=bearer(server, "ada")) == [200, 200, 200]


def test_tokens_survive_a_restart(install: Install, tmp_path: Path) -> None:
    users = str(write_users(tmp_path))
    headers = bearer(install(users=users))
    assert send_request(install(users=users), "GET", "/user", headers=headers).status_code == 200


def test_the_token_lifetime_comes_from_the_settings(install: Install, tmp_path: Path) -> None:
    assert log_in(install(users=str(write_users(tmp_path)), token_hours="2")).json()["expires_in"] == 7200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dW5hOnBhc3N3b3Jk", "{token}", "Bearer {token} {token}", "bearer\t{token}"],
)
def test_an_invalid_authorization_header_is_refused(install: Install, tmp_path: Path, header: str) -> None:
    server = install(users=str(write_users(tmp_path)))
    token = log_in(server).json()["access_token"]
    assert statuses(server, headers={"Authorization": header.format(token=token)}) == [401, 401, 401]


def test_a_token_is_read_from_one_authorization_header_only(install: Install, tmp_path: Path) -> None:
    server = install(users=str(write_users(tmp_path)))
    token = log_in(server).json()["access_token"]
    assert statuses(server, headers=[("Authorization", f"Bearer {token}")] * 2) == [401, 401, 401]
    assert statuses(server, params={"token": token}, headers={"Cookie": f"token={token}"}) == [401, 401, 401]


def test_a_cors_preflight_request_needs_no_token(install: Install, tmp_path: Path) -> None:
    server = install(users=str(write_users(tmp_path)))
    guard(server, origins=("https://viewer.example",), limit_bytes=1000, hosts=frozenset(), folders={})
    headers = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
    preflight = send_request(server, "OPTIONS", "/user", headers=headers)
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Methods"] != "") == (200, True)
    refused = send_request(server, "GET", "/user", headers=headers)
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://viewer.example")
    assert (
        send_request(server, "GET", "/user", headers={**bearer(server), "Origin": "https://evil.example"}).status_code
        == 403
    )


def test_a_web_socket_is_closed(install: Install, tmp_path: Path) -> None:
    server = install(users=str(write_users(tmp_path)))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def connect() -> None:
        await server({"type": "websocket", "path": "/user", "headers": []}, None, send)  # type: ignore[arg-type]

    asyncio.run(connect())
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_the_login_is_public_under_a_root_path(install: Install, tmp_path: Path) -> None:
    server = install(users=str(write_users(tmp_path)))
    server.root_path = "/pet"
    assert [send_request(server, "GET", path).status_code for path in ("/pet/auth/", "/auth/", "/pet/user")] == [
        200,
        200,
        401,
    ]


def test_a_users_file_together_with_keycloak_is_refused(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monailabel_settings, "MONAI_LABEL_AUTH_ENABLE", True)
    with pytest.raises(
        InputError, match=r"MONAI_LABEL_AUTH_ENABLE selects .* Keycloak, --conf users those of a file: use one"
    ):
        install(users=str(write_users(tmp_path)))


def test_a_users_file_without_accounts_is_refused(install: Install, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"users.json has no accounts; add one with python main.py users add NAME --role admin --file"
    ):
        install(users=str(write_users(tmp_path, {})))


@pytest.mark.parametrize("folder", ["studies", "models", "models/deeper"])
def test_a_users_file_in_a_served_folder_is_refused(install: Install, tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"the users file .* is inside .*, whose files this server sends to clients; move it"
    ):
        install(users=str(write_users(tmp_path / folder)))


def test_an_empty_users_setting_is_refused(install: Install) -> None:
    with pytest.raises(InputError, match="--conf users '': names no file"):
        install(users="")


def test_a_signing_key_that_cannot_be_created_is_an_error(install: Install, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match=r"accounts.key, the key that signs tokens, cannot be read or created"):
        install(users=str(write_users(tmp_path)))


def test_of_twenty_concurrent_guesses_five_are_checked(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct2pet_app.auth.setup.LoginThrottle", lambda: LoginThrottle(clock=lambda: 1000.0))
    server = install(users=str(write_users(tmp_path)))

    async def guesses() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://127.0.0.1") as client:
            guess = {"username": "ada", "password": "seven geese on a lane"}
            return await asyncio.gather(*(client.post("/auth/token", data=guess) for _ in range(20)))

    responses = asyncio.run(guesses())
    assert sorted(response.status_code for response in responses) == [401] * 5 + [429] * 15
    assert {response.headers["Retry-After"] for response in responses if response.status_code == 429} == {"5"}
    assert log_in(server, "ada").status_code == 429
    assert log_in(server, "una").status_code == 200


def test_few_passwords_are_checked_at_once_and_few_logins_wait(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(users=str(write_users(tmp_path)))
    running: list[str] = []
    concurrent: list[int] = []

    def check(account: object, password: str) -> bool:
        running.append(threading.current_thread().name)
        concurrent.append(len(running))
        time.sleep(0.05)
        running.pop()
        return False

    monkeypatch.setattr("ct2pet_app.auth.login.verify_password", check)
    monkeypatch.setattr("ct2pet_app.auth.login.MAX_PENDING_CHECKS", 6)

    async def logins() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://127.0.0.1") as client:
            forms = [{"username": f"name{number}", "password": PASSWORD} for number in range(10)]
            return await asyncio.gather(*(client.post("/auth/token", data=form) for form in forms))

    responses = asyncio.run(logins())
    assert sorted(response.status_code for response in responses) == [401] * 6 + [503] * 4
    assert {response.headers["Retry-After"] for response in responses if response.status_code == 503} == {"5"}
    assert max(concurrent) == 2


def test_an_unknown_name_takes_as_long_as_a_wrong_password(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count the hashes: durations on a busy machine prove nothing."""
    server = install(users=str(write_users(tmp_path)))
    hashed: list[object] = []
    monkeypatch.setattr("ct2pet_app.auth.login.verify_password", lambda account, password: hashed.append(account))
    assert [log_in(server, name).status_code for name in ("ada", "unknown")] == [401, 401]
    assert [account is None for account in hashed] == [False, True]
