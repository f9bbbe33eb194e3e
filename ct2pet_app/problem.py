"""Error responses: problem details (RFC 9457) with a stable `code` and its `params`.

Every error response of the server is built by `problem_response`. `type` is always `about:blank`, so `title` is the
phrase of the status; what identifies the problem for a program is `code`, listed in docs/errors.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.exceptions import HTTPException

from ct2pet_app.advice import with_advice
from ct2pet_app.errors import HttpError
from ct2pet_app.json_values import sendable

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499  # nginx's status, which HTTPStatus lacks
CODES = {
    400: "malformed_request",
    401: "not_authenticated",
    403: "not_permitted",
    404: "endpoint_not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    422: "invalid_parameter",
    429: "too_many_requests",
    431: "headers_too_large",
    500: "internal_error",
    503: "unavailable",
    507: "disk_full",
}  # of errors that name no code of their own, by status


class Problem(BaseModel):
    """A problem detail as RFC 9457 defines it, with two extension members."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    type: str = Field(default="about:blank", description="Always `about:blank`; `code` identifies the problem")
    title: str = Field(description="The phrase of the status")
    status: int = Field(description="The status of the response")
    detail: str = Field(description="What is wrong, what was expected, what to do")
    code: str = Field(description="Identifies the problem for a program; stable, see docs/errors.md")
    params: dict[str, JsonValue] = Field(description="The values that the code's message is made of; empty for none")


def problem_response(
    status: int,
    detail: str,
    *,
    code: str | None = None,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error response; without `code`, the code is that of the status."""
    problem = Problem(
        title=_title(status),
        status=status,
        detail=sendable(detail),
        code=code or CODES.get(status, "internal_error" if status >= 500 else "malformed_request"),
        params=json.loads(json.dumps(sendable(dict(params or {})))),  # a tuple is not a JSON value
    )
    return JSONResponse(
        problem.model_dump(),
        status_code=status,
        headers=dict(headers) if headers else None,
        media_type=MEDIA_TYPE,
    )


def http_problem(error: HTTPException) -> JSONResponse:
    """Return the response to an error of HTTP itself."""
    detail, code, params = str(error.detail), None, {}
    if isinstance(error, HttpError) and error.code is not None:
        detail, code, params = with_advice(detail, error.code, error.params), error.code, error.params
    return problem_response(error.status_code, detail, code=code, params=params, headers=error.headers)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == CLIENT_CLOSED_REQUEST else "Error"
