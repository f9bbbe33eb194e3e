"""Answers of several parts, and files to be sent, as `multipart/form-data`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from CT2PETLib.client.errors import InvalidResponseError

Progress = Callable[[int, int], None]  # bytes so far, and of all; 0 where that is unknown
BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
NAME = re.compile(rb'[; ]name="([^"]*)"', re.IGNORECASE)


def split_parts(content: bytes, content_type: str) -> dict[str, bytes]:
    """Return the contents of an answer's parts by name.

    Raises:
        AnswerError: It has no parts, or was cut off.
    """
    found = BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/") or found is None:
        raise InvalidResponseError(f"The answer is {content_type[:60] or 'of no kind'}, expected one of several parts.")
    line = b"\r\n--" + found.group(1).encode("ascii")
    pieces = (b"\r\n" + content).split(line)
    if not pieces[-1].startswith(b"--"):
        raise InvalidResponseError("The answer was cut off before its end.")
    parts = {}
    for piece in pieces[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        named = NAME.search(head)
        if named is not None:
            parts[named.group(1).decode("utf-8", "replace")] = body
    return parts


class Upload:
    """Files and words to be sent, read bit by bit, so that nothing is held in memory twice and progress can be told.

    `requests` takes it as a body: it has a length and can be read. `rewind` lets it be sent again.
    """

    def __init__(
        self, files: Mapping[str, tuple[str, bytes | Path]], words: Mapping[str, str], progress: Progress
    ) -> None:
        self._boundary = uuid.uuid4().hex
        self._pieces: list[bytes | Path] = []
        for name, value in words.items():
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
        """The header that goes with it."""
        return f"multipart/form-data; boundary={self._boundary}"

    def __len__(self) -> int:
        return self._length

    def rewind(self) -> None:
        """Begin at the beginning."""
        self.close()
        self._sent = 0
        self._piece, self._offset = 0, 0

    def close(self) -> None:
        """Close a file that is open."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        most = self._length if size < 0 else size
        while self._piece < len(self._pieces):
            found = self._of_piece(self._pieces[self._piece], most)
            if found:
                self._offset += len(found)
                self._sent += len(found)
                self._progress(self._sent, self._length)
                return found
            self.close()
            self._piece, self._offset = self._piece + 1, 0
        return b""

    def _of_piece(self, piece: bytes | Path, most: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[self._offset : self._offset + most]
        if self._file is None:
            self._file = piece.open("rb")
        return self._file.read(most)

    def _head(self, disposition: str) -> bytes:
        return f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
