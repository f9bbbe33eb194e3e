"""Routes that check the caller's role before a byte of the body is read, and then how large the body may be.

FastAPI reads and parses a body before it resolves dependencies, and so before it knows whether the caller may use the
endpoint at all.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from monailabel.endpoints.user.auth import RBAC, User
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException

from ct2pet_app.server.form_parser import SharedFileParser
from ct2pet_app.server.log_redaction import uploads_in_progress
from ct2pet_app.server.request_body import MAX_JSON_BYTES, SCOPE_KEY

MAX_FIELDS = 20  # that are no files, of MAX_JSON_BYTES each
MAX_FILES = 1000  # where an endpoint takes a list; more are sent as a zip
MULTIPART = b"multipart/form-data"
STATE_KEY = "ct2pet_authenticate"
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

Authenticate = Callable[[Request], Awaitable[User]]


class GuardedRoute(APIRoute):
    """A route that checks roles first; its body is small unless it declares files."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler: roles, then limits, then the body and the endpoint."""
        roles = tuple(_roles(self.dependant))
        max_files = _max_files(self.dependant)
        self.form_limits = {"max_files": max_files, "max_fields": MAX_FIELDS, "max_part_size": MAX_JSON_BYTES}
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await _require_roles(request, roles)
            body = request.scope.get(SCOPE_KEY)
            if body is not None and max_files and _is_multipart(request):
                body.allow_files()
            guarded_request = GuardedRequest(request.scope, request.receive, request._send)
            with uploads_in_progress() as names:
                guarded_request.upload_names = names
                return await handle(guarded_request)

        return guarded


class GuardedRequest(Request):
    """A request whose JSON can be stored and sent back, and whose files do not fill the memory."""

    upload_names: list[str]

    async def json(self) -> Any:
        """Return the body's JSON.

        Raises:
            HTTPException: It holds what JSON cannot (NaN, Infinity), or text that cannot be stored.
        """
        return parse_json(await self.body())

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        """Return the form; called by FastAPI with the route's limits."""
        if _is_multipart(self):
            parser = SharedFileParser(self.headers, self.stream(), **limits)
            try:
                self._form = await parser.parse()
            except MultiPartException as error:
                raise HTTPException(400, f"the form cannot be read: {error.message}") from error
        form = await self._get_form(**limits)
        for name, value in form.multi_items():
            if not isinstance(value, str):
                self.upload_names.append(value.filename or "")
            elif "\0" in value:
                raise HTTPException(400, f"form field {name[:40]}: holds a NUL character")
        return form


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON body in UTF-8.

    Raises:
        json.JSONDecodeError: It is no JSON.
        HTTPException: See `GuardedRequest.json`.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text)
        written = json.dumps(value, allow_nan=False, ensure_ascii=False)
        written.encode("utf-8")
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # a UnicodeError is a ValueError
        raise HTTPException(
            400, "the body is not JSON that can be stored: it holds NaN, Infinity, lone surrogates, or is not UTF-8"
        ) from error
    if NUL.search(written):
        raise HTTPException(400, "the body holds a NUL character")
    return value


def set_authentication(server: FastAPI, authenticate: Authenticate) -> None:
    """Have every guarded route find out who sends a request in this way."""
    setattr(server.state, STATE_KEY, authenticate)


async def _require_roles(request: Request, roles: tuple[RBAC, ...]) -> None:
    authenticate: Authenticate | None = getattr(request.app.state, STATE_KEY, None)
    if authenticate is None or not roles:
        return
    user = await authenticate(request)
    for role in roles:
        await role(user)


def _roles(dependant: Dependant) -> Iterator[RBAC]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, RBAC):
            yield dependency.call
        yield from _roles(dependency)


def _max_files(dependant: Dependant) -> int:
    """Return how many files an endpoint takes."""
    fields = [field.field_info for field in dependant.body_params if isinstance(field.field_info, params.File)]
    return sum(MAX_FILES if typing.get_origin(field.annotation) is list else 1 for field in fields)


def _is_multipart(request: Request) -> bool:
    return parse_options_header(request.headers.get("content-type"))[0] == MULTIPART
