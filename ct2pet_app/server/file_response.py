"""Send a file that is already open, so that the response does not change when the file is replaced or removed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send


class OpenFileResponse(FileResponse):
    """Send an open file and close it; status, length and body are of that one file, even after it was replaced.

    Starlette's class reads the status of the path and opens it later: a file replaced in between would be truncated.
    """

    def __init__(self, file: BinaryIO, *, filename: str, media_type: str | None = None, **options: Any) -> None:
        """Take over an open file.

        Args:
            file: Opened by a path; closed when the response was sent, or is dropped.
            filename: The name for the client; not a path.
            media_type: By the file name where it is None.
            options: See FileResponse: `headers`, `status_code`.
        """
        self._file = file
        super().__init__(
            _path_of(file), filename=filename, media_type=media_type, stat_result=os.fstat(file.fileno()), **options
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def _path_of(file: BinaryIO) -> str:
    """Return a path that opens the same file again, even if its name was removed or reused."""
    if sys.platform == "win32":  # an open file can be neither replaced nor removed there
        return str(Path(file.name))
    return f"/proc/self/fd/{file.fileno()}" if sys.platform == "linux" else f"/dev/fd/{file.fileno()}"
