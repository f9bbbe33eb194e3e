"""Compressed pixels (JPEG, JPEG-LS, JPEG 2000, RLE), decoded by GDCM in a process of its own.

GDCM's codecs end the process on some damaged files (a division by zero, a segmentation fault) and ask for any memory
that a codestream names. Such a file costs the decoder, not the server that reads it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import DicomError

PROGRAM = Path(__file__).with_name("decoding.py")
SLICE_S = 60.0  # the slowest slice of 4,096 x 4,096 takes a second, the libraries two to load
LONGEST_ANSWER_BYTES = 2**20  # of the line in front of the numbers
CHUNK_BYTES = 2**20


class Decoder:
    """A decoder for the slices of a series; its process starts with the first slice and ends with the block."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def decode(self, path: Path) -> NDArray[Any]:
        """Return the pixels of one file as GDCM decodes and rescales them.

        Raises:
            DicomError: It cannot be decoded, ends the decoder, or takes too long; the message goes on after the name of
                the compression.
        """
        process = self._started()
        assert process.stdin is not None
        deadline = time.monotonic() + SLICE_S
        try:
            process.stdin.write(os.fsencode(path) + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(deadline))
            if "error" in answer:
                raise DicomError(f"cannot be decoded here ({_last_line(answer['error'])})")
            shape, dtype = tuple(answer["shape"]), np.dtype(answer["dtype"])
            content = self._take(math.prod(shape) * dtype.itemsize, deadline)
        except (OSError, EOFError, TimeoutError) as error:
            self._end()
            why = f"takes over {SLICE_S:.0f} s" if isinstance(error, TimeoutError) else "ends the decoder"
            raise DicomError(f"is damaged: decoding it {why}") from error
        return np.frombuffer(content, dtype).reshape(shape)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            command = [sys.executable, "-P", str(PROGRAM)]  # -P: the modules beside it are none of its own
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._pending = b""
        return self._process

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._pending:
            self._pending += self._read(deadline)
            if len(self._pending) > LONGEST_ANSWER_BYTES + CHUNK_BYTES:
                raise EOFError
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _take(self, count: int, deadline: float) -> bytes:
        pieces, missing = [self._pending[:count]], count - len(self._pending[:count])
        self._pending = self._pending[count:]
        while missing > 0:
            piece = self._read(deadline)
            pieces.append(piece[:missing])
            self._pending = piece[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _read(self, deadline: float) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        read = os.read(self._process.stdout.fileno(), CHUNK_BYTES)
        if not read:
            raise EOFError
        return read

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        with contextlib.suppress(OSError):  # what it had not read
            self._process.communicate()
        self._process = None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"
