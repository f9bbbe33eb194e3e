"""What every request passes first: is it well formed, may this web page send it, how much may it send."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ct2pet_app.errors import HttpError
from ct2pet_app.problem import http_problem
from ct2pet_app.server.middleware.hosts import Authority, is_ip_address, is_same_origin, parse_authority
from ct2pet_app.server.middleware.request_body import SCOPE_KEY, RequestBody

BAD_REQUEST, FORBIDDEN, URI_TOO_LONG, UNSUPPORTED_MEDIA_TYPE, HEADERS_TOO_LARGE = 400, 403, 414, 415, 431
MAX_QUERY_BYTES = 8_000
MAX_HEADERS, MAX_HEADER_BYTES = 100, 32_000  # uvicorn's own limit holds only for heads that arrive in parts
FOREIGN_SITES = ("cross-site", "same-site")  # Sec-Fetch-Site of requests without an Origin, such as embedded images
CONTROL_BYTES = re.compile(rb"[\x00-\x1f\x7f]")


class Gate:
    """ASGI middleware.

    Pages of other origins are refused, whether or not they could read the response, and so are host names that are not
    this server's: a page somewhere on the web could otherwise make a visitor's browser send requests to this server.
    The size of the body is limited before any of it is read; an endpoint that takes files raises the limit, once it
    knows that the caller may use it.
    """

    def __init__(
        self, app: ASGIApp, *, origins: tuple[str, ...], limit_bytes: int, hosts: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._hosts = hosts | {"localhost"}
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = RequestBody(receive, headers, max_upload_bytes=self._limit_bytes)

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and body.is_worth_closing:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        refusal = _malformed(scope, headers) or self._foreign(scope, headers)
        if refusal is not None:
            await http_problem(refusal)(scope, body.receive, send_and_close)
            return
        scope[SCOPE_KEY] = body
        await self._app(scope, body.receive, send_and_close)

    def _foreign(self, scope: Scope, headers: dict[bytes, str]) -> HttpError | None:
        host = _host(scope)
        if host is None:
            return HttpError(
                BAD_REQUEST, "the Host header is missing or malformed; expected one name or IP address and its port"
            )
        origin = headers.get(b"origin", "")
        if origin and origin not in self._origins and not is_same_origin(origin, host):
            return HttpError(
                FORBIDDEN,
                f"web pages of {origin[:100]} may not use this server; its owner can allow them with --conf origins",
                code="origin_not_allowed",
                origin=origin[:100],
            )
        site, mode = headers.get(b"sec-fetch-site", ""), headers.get(b"sec-fetch-mode", "")
        if not origin and not self._origins and site in FOREIGN_SITES and mode != "navigate":
            return HttpError(
                FORBIDDEN, "web pages of other sites may not load anything from this server", code="origin_not_allowed"
            )
        if not is_ip_address(host[0]) and host[0] not in self._hosts:
            return HttpError(
                FORBIDDEN,
                f"this server is not called {host[0][:100]}; use its IP address, or, as for the name of a reverse "
                f"proxy, allow it with --conf origins http://{host[0][:100]}",
                code="host_not_allowed",
                host=host[0][:100],
            )
        return None


def _host(scope: Scope) -> Authority | None:
    values = [value for name, value in scope["headers"] if name.lower() == b"host"]
    return parse_authority(values[0].decode("latin-1")) if len(values) == 1 else None


def _size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def _malformed(scope: Scope, headers: dict[bytes, str]) -> HttpError | None:
    query = scope.get("query_string", b"")
    if len(scope["headers"]) > MAX_HEADERS or _size(scope["headers"]) > MAX_HEADER_BYTES:
        return HttpError(
            HEADERS_TOO_LARGE, f"more than {MAX_HEADERS} headers, or of more than {MAX_HEADER_BYTES / 1e3:.0f} kB"
        )
    if not scope["path"].startswith("/"):
        return HttpError(BAD_REQUEST, "the URL must be a path that begins with /")
    if len(query) > MAX_QUERY_BYTES:
        return HttpError(
            URI_TOO_LONG, f"the query is longer than {MAX_QUERY_BYTES / 1e3:.0f} kB; send parameters in the body"
        )
    if CONTROL_BYTES.search(scope["path"].encode("utf-8", "replace")) or CONTROL_BYTES.search(unquote_to_bytes(query)):
        return HttpError(BAD_REQUEST, "the URL contains control characters")
    if b"content-length" in headers and b"transfer-encoding" in headers:
        return HttpError(BAD_REQUEST, "the request has both Content-Length and Transfer-Encoding; send one of them")
    if headers.get(b"content-encoding", "identity").strip().lower() not in ("", "identity"):
        return HttpError(UNSUPPORTED_MEDIA_TYPE, "compressed request bodies are not accepted; send the body as it is")
    return None
