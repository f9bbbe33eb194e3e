"""Multipart responses, and uploads as `multipart/form-data`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.i18n import _

Progress = Callable[[int, int], None]  # bytes so far, and in total; 0 if unknown
BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
NAME = re.compile(rb'[; ]name="([^"]*)"', re.IGNORECASE)


def split_parts(content: bytes, content_type: str) -> dict[str, bytes]:
    """Return the contents of a response's parts by name.

    Raises:
        InvalidResponseError: The response is not multipart, or is truncated.
    """
    found = BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/") or found is None:
        kind = content_type[:60] or _("without content type")
        raise InvalidResponseError(_("Invalid response: {kind}, expected a multipart response.").format(kind=kind))
    line = b"\r\n--" + found.group(1).encode("ascii")
    pieces = (b"\r\n" + content).split(line)
    if not pieces[-1].startswith(b"--"):
        raise InvalidResponseError(_("The response is truncated."))
    parts = {}
    for piece in pieces[1:-1]:
        head, __, body = piece.partition(b"\r\n\r\n")
        named = NAME.search(head)
        if named is not None:
            parts[named.group(1).decode("utf-8", "replace")] = body
    return parts


class Upload:
    """A form with files and fields, read in chunks, so that nothing is held in memory twice and progress is reported.

    `requests` accepts it as a body, as it has a length and `read`. After `rewind` it can be sent again.
    """

    def __init__(
        self, files: Mapping[str, tuple[str, bytes | Path]], fields: Mapping[str, str], progress: Progress
    ) -> None:
        self._boundary = uuid.uuid4().hex
        self._pieces: list[bytes | Path] = []
        for name, value in fields.items():
            self._pieces.append(self._head(f'name="{name}"') + value.encode() + b"\r\n")
        for name, (file_name, content) in files.items():
            self._pieces += [self._head(f'name="{name}"; filename="{file_name}"'), content, b"\r\n"]
        self._pieces.append(f"--{self._boundary}--\r\n".encode())
        self._length = sum(piece.stat().st_size if isinstance(piece, Path) else len(piece) for piece in self._pieces)
        self._progress = progress
        self._file: BinaryIO | None = None
        self.rewind()

    @property
    def content_type(self) -> str:
        """The Content-Type header."""
        return f"multipart/form-data; boundary={self._boundary}"

    def __len__(self) -> int:
        return self._length

    def rewind(self) -> None:
        """Restart at the beginning."""
        self.close()
        self._sent = 0
        self._piece, self._offset = 0, 0

    def close(self) -> None:
        """Close the open file, if any."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; empty at the end."""
        limit = self._length if size < 0 else size
        while self._piece < len(self._pieces):
            chunk = self._read_piece(self._pieces[self._piece], limit)
            if chunk:
                self._offset += len(chunk)
                self._sent += len(chunk)
                self._progress(self._sent, self._length)
                return chunk
            self.close()
            self._piece, self._offset = self._piece + 1, 0
        return b""

    def _read_piece(self, piece: bytes | Path, limit: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[self._offset : self._offset + limit]
        if self._file is None:
            self._file = piece.open("rb")
        return self._file.read(limit)

    def _head(self, disposition: str) -> bytes:
        return f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
