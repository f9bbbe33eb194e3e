"""The server's log: the stock endpoints, with a page that loads nothing from anywhere.

The stock page loads two scripts from public servers, which a hospital's network does not reach, and whose owners would
see who reads the log.
"""

from __future__ import annotations

import html as markup
import shutil
import subprocess
from collections import deque
from pathlib import Path
from string import Template
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response
from monailabel.config import settings as monailabel_settings

from ct2pet_app.api.responses import file_response
from ct2pet_app.auth.permissions import ADMIN
from ct2pet_app.errors import NotFoundError
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

MAX_LINES = 100_000
REFRESH_S = 5  # where a page is to be renewed and no number is given
MIN_REFRESH_S = 3  # as the stock page
GPU_TIMEOUT_S = 20.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
# turned upside down twice, so that a page without scripts opens, and is renewed, at its last line
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>ct2pet: log</title>
$renewal<style>
body { margin: 0; display: flex; flex-direction: column; height: 100vh; font: 14px sans-serif; }
nav { padding: 6px 12px; border-bottom: 1px solid #ccc; }
main { flex: 1; overflow: auto; display: flex; flex-direction: column-reverse; }
pre { margin: 0; padding: 6px 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
</style>
</head>
<body>
<nav>The last $count lines. $links</nav>
<main><pre>$text</pre></main>
</body>
</html>
""")


router = APIRouter(route_class=GuardedRoute, dependencies=[ADMIN], tags=["Others"])


@router.get("/logs/", **file_response("text/html", "text/plain"))
def show_log(
    lines: Annotated[int, Query(le=MAX_LINES)] = 300,
    html: bool = True,
    text: bool = False,
    refresh: Annotated[int, Query(ge=0, le=86400)] = 0,
) -> Response:
    """Show the last lines of the log: a page, or with `text` (or without `html`) as text; below 1, the complete log."""
    file = Path(monailabel_settings.MONAI_LABEL_APP_DIR, "logs", "app.log")
    if not file.is_file():
        raise NotFoundError(
            "there is no log file: nothing was logged yet, or --log_config sends it elsewhere", code="log_not_found"
        )
    if lines < 1:
        return FileResponse(file, media_type="text/plain", headers=HEADERS)
    with file.open(encoding="utf-8", errors="replace") as log:
        last = deque(log, lines)
    if text or not html:
        return Response("".join(last), media_type="text/plain", headers=HEADERS)
    return Response(_page(last, lines=lines, refresh_s=refresh), media_type="text/html", headers=HEADERS)


def _page(last: deque[str], *, lines: int, refresh_s: int) -> str:
    refresh_s = max(refresh_s, MIN_REFRESH_S) if refresh_s else 0
    plain = f'<a href="?lines={lines}&amp;text=true">as text</a>'
    other = (
        f'<a href="?lines={lines}">stop renewing</a>'
        if refresh_s
        else (f'<a href="?lines={lines}&amp;refresh={REFRESH_S}">renew every {REFRESH_S} s</a>')
    )
    return PAGE.substitute(
        renewal=f'<meta http-equiv="refresh" content="{refresh_s}">\n' if refresh_s else "",
        count=len(last),
        links=f"{plain}, {other}",
        text=markup.escape("".join(last)),
    )


@router.get("/logs/gpu", summary="Show the GPUs", **file_response("text/plain"))
def show_gpu() -> Response:
    """Show the output of nvidia-smi."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise NotFoundError("this machine has no nvidia-smi: no NVIDIA graphics card, or no driver for it")
    try:
        said = subprocess.run([program], capture_output=True, timeout=GPU_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotFoundError(f"nvidia-smi did not respond within {GPU_TIMEOUT_S:.0f} s") from error
    return Response((said.stdout or said.stderr).decode(errors="replace"), media_type="text/plain", headers=HEADERS)
