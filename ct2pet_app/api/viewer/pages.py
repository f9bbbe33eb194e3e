"""The files of the viewer's page. They are the same for everyone and hold no data, so they need no token."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse

from ct2pet_app.errors import NotFoundError
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

FOLDER = Path(__file__).resolve().parents[2] / "viewer" / "static"
INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
FILES = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.suffix in MEDIA_TYPES}
# blob: thumbnails, which are fetched with the token; data: the font of NiiVue's labels
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FOREVER = "public, max-age=31536000, immutable"  # the name of a vendored file holds its version

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


@router.api_route("/ct2pet/viewer", methods=["GET", "HEAD"])
def redirect_to_page() -> RedirectResponse:
    """Redirect to the page, whose links are relative to its folder."""
    return RedirectResponse("viewer/")


@router.api_route("/ct2pet/viewer/{path:path}", methods=["GET", "HEAD"])
def get_file(path: str) -> FileResponse:
    """Return the page or one of its files; its path is looked up, never opened."""
    file = FILES.get(path or INDEX)
    if file is None:
        raise NotFoundError("the viewer has no such file; its page is /ct2pet/viewer/")
    headers = {"Content-Security-Policy": POLICY}
    if path.startswith("vendor/"):
        headers["Cache-Control"] = FOREVER
    return FileResponse(file, media_type=MEDIA_TYPES[file.suffix], headers=headers)
