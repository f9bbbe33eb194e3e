"""The start page, and pages that describe the API; they load nothing from other servers, and run no script.

The stock pages load scripts from public servers, and the stock server gives out a viewer of its own under /static.
"""

from __future__ import annotations

import html as markup
from string import Template
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse

from ct2pet_app.errors import NotFoundError
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from ct2pet_app.server.openapi import METHODS

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>ct2pet$title</title>
<style>
body { font: 14px/1.5 sans-serif; margin: 1rem auto; max-width: 70rem; padding: 0 1rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 0; }
code { font-weight: bold; }
table { border-collapse: collapse; }
td { border-top: 1px solid #ccc; padding: 2px 12px 2px 0; vertical-align: top; }
</style>
</head>
<body>
<h1>ct2pet$title</h1>
<p>Research software, not for diagnosis. $links</p>
$content
</body>
</html>
""")
START_LINKS = '<a href="ct2pet/viewer/">Viewer: CTs with their synthetic PETs</a>'
START = """
<p><a href="ct2pet/viewer/#/api">API: endpoints, parameters and responses</a></p>
<p>For programs: <a href="docs">the same as a page of its own</a>, <a href="openapi.json">OpenAPI</a>.
On a server with accounts, these two need a token, as every request for data does: <code>POST /auth/token</code> with
<code>username</code> and <code>password</code> returns one, to be sent as <code>Authorization: Bearer TOKEN</code>.
The viewer asks for user name and password itself.</p>
"""


router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
def show_start_page() -> HTMLResponse:
    """Link to the viewer and to the API. The page is the same for everyone, and needs no token."""
    return _page("", START_LINKS, START)


@router.api_route("/docs", methods=["GET", "HEAD"])
@router.api_route("/redoc", methods=["GET", "HEAD"])
def show_reference(request: Request) -> HTMLResponse:
    """List the operations, and describe each."""
    operations = _operations(request.app)
    rows = [
        f"<tr><td><code>{method.upper()} {_text(path)}</code></td><td>{_text(operation.get('summary', ''))}</td></tr>"
        for path, method, operation in operations
    ]
    sections = [_section(path, method, operation) for path, method, operation in operations]
    links = '<a href="./">Start page</a>, <a href="openapi.json">OpenAPI</a>'
    return _page(": API", links, f"<table>{''.join(rows)}</table>{''.join(sections)}")


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
def refuse_static_files(path: str) -> None:
    """Refuse: these are files of MONAI Label's own viewer."""
    raise NotFoundError(
        "this server has no files here; open the studies in 3D Slicer, or in the viewer at /ct2pet/viewer/",
        code="not_supported",
    )


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = [
        (f"{parameter['name']} ({parameter['in']})", _kind(parameter.get("schema", {})))
        for parameter in operation.get("parameters", [])
    ]
    body = [("body", media_type) for media_type in operation.get("requestBody", {}).get("content", {})]
    responses = [(status, response["description"]) for status, response in operation["responses"].items()]
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td>{_text(what)}</td></tr>" for name, what in parameters + body + responses
    )
    description = _text(operation.get("description") or operation.get("summary", ""))
    return f"<h2><code>{method.upper()} {_text(path)}</code></h2><p>{description}</p><table>{rows}</table>"


def _kind(schema: dict[str, Any]) -> str:
    kinds = [str(one.get("type", "")) for one in schema.get("anyOf", [schema])]
    default = f", default {schema['default']}" if "default" in schema else ""
    return " or ".join(filter(None, kinds)) + default


def _operations(server: FastAPI) -> list[tuple[str, str, dict[str, Any]]]:
    paths = server.openapi()["paths"]
    return [(path, method, item[method]) for path, item in paths.items() for method in METHODS if method in item]


def _page(title: str, links: str, content: str) -> HTMLResponse:
    return HTMLResponse(PAGE.substitute(title=title, links=links, content=content), headers=HEADERS)


def _text(value: object) -> str:
    return markup.escape(str(value))
