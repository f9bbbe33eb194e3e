"""Problem details: every error response has one shape, one media type, and a documented code."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException

from ct2pet_app.advice import ADVICE, detail_of
from ct2pet_app.errors import BusyError, HttpError, NotFoundError, RequestError, TaskRunningError
from ct2pet_app.problem import CODES, MEDIA_TYPE, Problem
from ct2pet_app.server.exception_handlers import UnhandledErrorMiddleware, install_exception_handlers
from ct2pet_app.server.middleware.request_guard import Gate
from ct2pet_app.server.middleware.response_guard import ResponseGuard
from ct2pet_app.server.openapi import describe_api
from lib.errors import (
    CT2PETError,
    InputError,
    MemoryLimitError,
    MissingAttributeError,
    ModelNotTrainedError,
    OutputError,
    RemoteError,
)
from tests.conftest import REPOSITORY
from tests.error_codes import UNEXPECTED, all_codes, errors, field_codes, http_status, raised

ROW = re.compile(r"^\| `(\w+)` \| ([\d, ]+|–) \| (.*?) \| .+ \| .+ \|$", re.MULTILINE)
NO_SPACE = OSError(28, "No space left on device")


def ask(error: Exception, path: str = "/fail/1", method: str = "GET", **sent: Any) -> httpx.Response:
    """Return the response of a server whose only endpoint fails with an error."""
    server = FastAPI()

    @server.get("/fail/{number}")
    def fail(number: int) -> None:
        raise error

    install_exception_handlers(server)
    server.add_middleware(UnhandledErrorMiddleware)
    server.add_middleware(Gate, origins=(), limit_bytes=10**6, hosts=frozenset({"testserver"}))
    server.add_middleware(ResponseGuard, folders={})

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://testserver") as client:
            return await client.request(method, path, **sent)

    return asyncio.run(send())


def problem(error: Exception, path: str = "/fail/1", method: str = "GET", **sent: Any) -> dict[str, Any]:
    """Return the problem details of a response, after checking their format."""
    response = ask(error, path, method, **sent)
    assert response.headers["Content-Type"] == MEDIA_TYPE
    found: dict[str, Any] = response.json()
    Problem.model_validate(found, strict=True)
    assert list(found) == ["type", "title", "status", "detail", "code", "params"]
    assert found["type"] == "about:blank" and found["status"] == response.status_code and found["code"] in all_codes()
    return found


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "code", "params"),
    [
        (CT2PETError("a"), 500, "internal_error", {}),
        (InputError("a"), 400, "invalid_input", {}),
        (MissingAttributeError("a", attribute="Units"), 400, "missing_attribute", {"attribute": "Units"}),
        (NotFoundError("a", code="model_not_found", model="x"), 404, "model_not_found", {"model": "x"}),
        (ModelNotTrainedError("a", model="unet", stages=1), 409, "model_not_trained", {"model": "unet", "stages": 1}),
        (MemoryLimitError("a", needed_mb=2, limit_mb=1), 413, "memory_limit", {"needed_mb": 2, "limit_mb": 1}),
        (TaskRunningError("a", task="training"), 429, "task_running", {"task": "training"}),
        (InputError("a", known=("1", "2")), 400, "invalid_input", {"known": ["1", "2"]}),
        (RemoteError("a"), 502, "pacs_failed", {}),
        (BusyError("a", waiting=8), 503, "busy", {"waiting": 8}),
        (OutputError("a"), 507, "write_failed", {}),
        (caused_by(OutputError("a"), NO_SPACE), 507, "disk_full", {}),
        (caused_by(InputError("a"), NO_SPACE), 507, "disk_full", {}),
        (NO_SPACE, 507, "disk_full", {}),
        (MemoryError(), 503, "out_of_memory", {}),
        (ZeroDivisionError("secret"), 500, "internal_error", {}),
        (MONAILabelException(MONAILabelError.SERVER_ERROR, "stock"), 400, "invalid_request", {}),
        (HTTPException(401, "who"), 401, "not_authenticated", {}),
        (HTTPException(403, "no"), 403, "not_permitted", {}),
        (HTTPException(429, "slow"), 429, "too_many_requests", {}),
        (HttpError(413, "big", code="request_too_large", limit_mb=5), 413, "request_too_large", {"limit_mb": 5}),
        (RequestError("a", losses=[float("nan")], name="\ud800"), 400, "invalid_request",
         {"losses": [None], "name": "\ufffd"}),
    ],
)  # fmt: skip
def test_each_error_has_its_status_code_and_params(
    error: Exception, status: int, code: str, params: dict[str, Any]
) -> None:
    found = problem(error)
    assert (found["status"], found["code"], found["params"]) == (status, code, params)
    assert "secret" not in found["detail"]


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "title", "code"),
    [
        ("GET", "/nothing", {}, 404, "Not Found", "endpoint_not_found"),
        ("POST", "/fail/1", {}, 405, "Method Not Allowed", "method_not_allowed"),
        ("GET", "/fail/one", {}, 422, "Unprocessable Content|Unprocessable Entity", "invalid_parameter"),
        ("GET", "/fail/1", {"headers": {"host": "evil.example"}}, 403, "Forbidden", "host_not_allowed"),
        ("GET", "/fail/1", {"headers": {"origin": "http://evil"}}, 403, "Forbidden", "origin_not_allowed"),
        ("GET", "/fail/1", {"headers": {"x": "x" * 40_000}}, 431, "Request Header Fields Too Large",
         "headers_too_large"),
        ("GET", "/fail/1?" + "x" * 9000, {}, 414, "URI Too Long|Request-URI Too Long", "uri_too_long"),
        ("GET", "/fail/1", {"headers": {"content-encoding": "gzip"}}, 415, "Unsupported Media Type",
         "unsupported_media_type"),
    ],
)  # fmt: skip
def test_what_never_reaches_an_endpoint_is_a_problem_too(
    method: str, path: str, sent: dict[str, Any], status: int, title: str, code: str
) -> None:
    found = problem(InputError("not reached"), path, method, **sent)
    assert (found["status"], found["code"]) == (status, code) and found["title"] in title.split("|")


def test_a_validation_error_names_the_fields() -> None:
    assert problem(InputError("not reached"), "/fail/one")["params"] == {"fields": ["path.number"]}


def test_what_to_do_over_http_is_added_by_code() -> None:
    found = problem(NotFoundError("no pair has a CT '1'", code="pair_not_found", ct="1"))
    assert found["detail"] == "no pair has a CT '1'; GET /ct2pet/pairs lists them"
    assert detail_of(NotFoundError("plain")) == "plain"
    error = ModelNotTrainedError("m", code="model_not_served", model="unet", version=3)
    assert detail_of(error) == 'm; POST /ct2pet/models/unet/serve with {"version": 3} serves it anyway'


def test_every_advice_is_of_a_code_and_every_error_of_that_code_fills_it() -> None:
    assert set(ADVICE) <= all_codes()
    for one in raised():
        needed = set(re.findall(r"\$(\w+)", ADVICE.get(one.code, "")))
        assert needed <= one.params, f"{one.place}: {one.code} needs {needed - one.params}"


def test_a_path_of_the_server_reaches_no_client_in_a_problem() -> None:
    found = problem(InputError("/etc/ct2pet/secret.txt: no", name="/etc/ct2pet/secret.txt"))
    assert (found["detail"], found["params"]) == ("secret.txt: no", {"name": "secret.txt"})


def test_a_busy_server_says_when_to_try_again() -> None:
    assert ask(BusyError("a")).headers["Retry-After"] == "10"


def test_the_description_of_the_api_has_problems_as_the_responses_of_errors() -> None:
    server = FastAPI()
    server.get("/one/{number}")(lambda number: number)
    describe_api(server, server.router.routes, {})
    described = server.openapi()
    responses = described["paths"]["/one/{number}"]["get"]["responses"]
    of_errors = {status: response for status, response in responses.items() if status >= "400"}
    assert {"400", "401", "403", "404", "422", "500", "503", "507"} <= set(of_errors)
    for response in of_errors.values():
        assert response["content"] == {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert described["components"]["schemas"]["Problem"]["required"] == [
        "type", "title", "status", "detail", "code", "params",
    ]  # fmt: skip


def documented() -> dict[str, tuple[set[int], str]]:
    """Return statuses and params by code, as docs/errors.md has them."""
    rows = ROW.findall((REPOSITORY / "docs" / "errors.md").read_text(encoding="utf-8"))
    return {code: ({int(status) for status in re.findall(r"\d+", statuses)}, params) for code, statuses, params in rows}


def test_the_documented_codes_are_those_of_the_source() -> None:
    rows = documented()
    assert set(rows) == all_codes()
    decided_by_the_call = {one.code for one in raised() if one.status is None} | UNEXPECTED
    for code, (statuses, params) in rows.items():
        sites = [one for one in raised() if one.code == code]
        found = {one.status for one in sites if one.status} | {
            http_status(kind("")) for kind in errors() if kind.code == code
        }
        found |= {status for status, of_status in CODES.items() if of_status == code}
        found |= {http_status(RequestError(""))} if code in field_codes() else set()
        assert found == statuses or (code in decided_by_the_call and found < statuses), code
        always = set.intersection(*(set(one.params) for one in sites)) if sites else set()
        ever = set().union(*(one.params for one in sites))
        shown = set(re.findall(r"`(\w+)`", params))
        if code != "invalid_parameter":  # made by the handler
            assert shown == ever, code
            assert set(re.findall(r"\(`(\w+)`\)", params)) == ever - always, code
