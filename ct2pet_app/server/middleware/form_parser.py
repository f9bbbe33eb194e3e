"""Multipart forms whose files go to the disk as they arrive, however many there are.

The stock parser keeps the first megabyte of each file in memory: a thousand CT slices of half a megabyte are half a
gigabyte. Here all files of a form share one temporary file, so that they also need one open file and not a thousand.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import AsyncGenerator
from typing import BinaryIO, cast

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser


class _SharedFile:
    """An unnamed temporary file, to which parts are appended; it is closed with its last part."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.descriptor = self._file.fileno()
        self.size = 0
        self._parts = 0

    def add_part(self) -> _Part:
        self._parts += 1
        return _Part(self)

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def release(self) -> None:
        self._parts -= 1
        if self._parts == 0:
            self._file.close()


class _Part(io.RawIOBase):
    """One uploaded file: a stretch of the shared file, which begins where the first byte is written.

    Not where the part was made: the parser reads the heads of several parts before it writes the content of the first.
    """

    def __init__(self, shared: _SharedFile) -> None:
        super().__init__()
        self._shared = shared
        self._start = self._end = 0
        self._position = 0

    def write(self, data: object) -> int:
        octets = bytes(cast(bytes, data))
        if self._start == self._end:
            self._start = self._end = self._shared.size
        if self._end != self._shared.size:
            raise io.UnsupportedOperation("the next file of this form has begun")
        self._shared.append(octets)
        self._end = self._shared.size
        return len(octets)

    def readinto(self, buffer: object) -> int:
        target = memoryview(cast(bytearray, buffer)).cast("B")
        length = min(len(target), max(0, self._end - self._start - self._position))
        octets = os.pread(self._shared.descriptor, length, self._start + self._position)
        target[: len(octets)] = octets
        self._position += len(octets)
        return len(octets)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end - self._start}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._shared.release()
        super().close()


class SharedFileParser(MultiPartParser):
    """Starlette's parser, with every file of the form in one temporary file."""

    def __init__(
        self,
        headers: Headers,
        stream: AsyncGenerator[bytes, None],
        *,
        max_files: int | float,
        max_fields: int | float,
        max_part_size: int,
    ) -> None:
        super().__init__(headers, stream, max_files=max_files, max_fields=max_fields, max_part_size=max_part_size)
        self._shared: _SharedFile | None = None

    def on_headers_finished(self) -> None:
        """Begin a part."""
        super().on_headers_finished()
        upload = self._current_part.file
        if upload is not None:
            self._shared = self._shared or _SharedFile()
            upload.file.close()  # the empty one of Starlette
            part = cast(BinaryIO, self._shared.add_part())
            upload.file = part
            self._files_to_close_on_error[-1] = part  # type: ignore[call-overload]
