"""The outermost middleware: add security headers, and remove the server's paths from responses.

Endpoints return ids and file names. This covers messages of exceptions and libraries, and the output of tasks.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REPOSITORY = Path(__file__).resolve().parents[3]
SYSTEM_FOLDERS = ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run",
                  "sbin", "srv", "sys", "tmp", "usr", "var", "Users", "Library", "Volumes", "private")  # fmt: skip
SIGN = r"[^\s\"'\\:;,)\]}>|/]"  # of a name; others end a path in a sentence or in JSON
REST = rf"(?:/{SIGN}*)*"
REST_WITH_SPACES = rf"(?:/(?:{SIGN}| ){{0,80}}(?=/)|/{SIGN}*)*"  # a folder's name may hold spaces
JSON_TYPES = ("application/json", "application/problem+json")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ResponseGuard:
    """ASGI middleware.

    Args:
        app: The wrapped application.
        folders: The server's folders by path, with the titles that replace them.
    """

    def __init__(self, app: ASGIApp, *, folders: Mapping[str, str]) -> None:
        self._app = app
        self._paths = PathScrubber(folders)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # of a response that is text: held back until its body is known

        async def guarded(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if "access-control-allow-origin" in headers:  # a page of an allowed origin reads it
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                if headers.get("content-type", "").startswith(JSON_TYPES):
                    start = message
                    return
            elif start is not None and message["type"] == "http.response.body":
                begun, start = start, None
                if not message.get("more_body", False):
                    message = {**message, "body": self._paths.scrub_bytes(message.get("body", b""))}
                    if scope["method"] != "HEAD":
                        MutableHeaders(scope=begun)["Content-Length"] = str(len(message["body"]))
                await send(begun)
            await send(message)

        await self._app(scope, receive, guarded)


class PathScrubber:
    """Replaces paths of the server by the last part, and folders by their titles."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._titles: dict[str, str] = {}
        known = {**folders, str(Path(tempfile.gettempdir())): "the temporary folder", str(REPOSITORY): "the program",
                 sys.prefix: "the environment", str(Path.home()): "the home folder"}  # fmt: skip
        for folder, title in known.items():
            for path in {str(Path(folder).absolute()), str(Path(folder).resolve())}:
                if len(Path(path).parts) > 1:
                    self._titles.setdefault(path, title)
        known_folders = "|".join(re.escape(path) for path in sorted(self._titles, key=len, reverse=True))
        system_folders = "|".join(SYSTEM_FOLDERS)
        self._pattern = re.compile(
            rf"(?<![\w./-])(?:({known_folders})(?![\w-]|\.\w)({REST_WITH_SPACES})|(/(?:{system_folders}))(/{SIGN}+{REST}))"
        )

    def scrub(self, text: str) -> str:
        """Return a text without paths of the server."""
        return self._pattern.sub(self._replacement, text)

    def scrub_bytes(self, body: bytes) -> bytes:
        """Return a JSON body without paths of the server."""
        if b"/" not in body:
            return body
        text = body.decode("utf-8", "surrogateescape")
        scrubbed = self.scrub(text)
        return body if scrubbed == text else scrubbed.encode("utf-8", "surrogateescape")

    def _replacement(self, found: re.Match[str]) -> str:
        rest = found[2] if found[1] else found[4]
        name = rest.rstrip("/.")
        dot = "." if rest.endswith(".") else ""
        return (name.rpartition("/")[2] or self._titles.get(found[1] or "", "a folder of the server")) + dot
