"""Decoding of compressed pixels (JPEG, JPEG-LS, JPEG 2000, RLE) by GDCM in a child process.

GDCM's codecs crash on some damaged files (division by zero, segmentation fault) and allocate any memory that a
codestream declares. Such a file ends the child process instead of the server.
"""

from __future__ import annotations

import math
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import DicomError, UndecodableError
from lib.imaging.files.child_process import ChildError, ChildProcess
from lib.imaging.files.failed_files import failed_files

FILE = "slice.dcm"  # independent of the original file name
PROGRAM = Path(__file__).with_name("decoder_main.py")
SLICE_TIMEOUT_S = 120.0  # wall time, on a loaded machine
START_CPU_S = 10.0  # processor time; loading the libraries takes half a second
SLICE_CPU_S = 0.5  # a slice of 512 x 512 takes 0.02
MEGAPIXEL_CPU_S = 2.0  # JPEG 2000 takes 0.3
FIXED_BYTES = 2**26  # in addition to the libraries
PIXEL_BYTES = 48  # per pixel: codecs hold several copies of a slice in up to 32 bits; measured: at most 30
FILE_BYTES = 6  # per byte of the file


class Decoder:
    """A decoder for the slices of a series; its process starts with the first slice and ends with the context."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None
        self._cpu_total_s = START_CPU_S  # of the series: slow slices may use the time that fast ones save

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child is not None:
            self._child.end()
        if self._folder is not None:
            self._folder.cleanup()
        self._child = self._folder = None

    def decode(self, file: bytes, *, pixels: int, source: Path | None = None) -> NDArray[Any]:
        """Return the pixels of one file, decoded and rescaled by GDCM.

        Args:
            file: A DICOM file with a header written by ct2pet.
            pixels: Expected number of pixels.
            source: The original file. One that has crashed or stalled a decoder before is not decoded again.

        Raises:
            UndecodableError: The file cannot be decoded, crashes the decoder, or takes too long; the message is a
                predicate whose subject is the compression.
        """
        known = "" if source is None else failed_files().outcome_of(source)
        if known:
            raise UndecodableError(_damaged(known))
        child, name = self._ready()
        name.write_bytes(file)
        memory_bytes = FIXED_BYTES + PIXEL_BYTES * pixels + FILE_BYTES * len(file)
        cpu_s = SLICE_CPU_S + MEGAPIXEL_CPU_S * pixels / 1e6
        self._cpu_total_s += cpu_s
        request = {"file": FILE, "memory_bytes": memory_bytes, "cpu_s": START_CPU_S + cpu_s,
                   "cpu_total_s": self._cpu_total_s}  # fmt: skip
        received: list[NDArray[Any]] = []

        def receive(response: dict[str, Any]) -> memoryview:
            """Return a buffer for the pixels."""
            shape, dtype = tuple(response["shape"]), np.dtype(response["dtype"])
            if math.prod(shape) != pixels or dtype.kind not in "iu" or dtype.itemsize > 4:
                raise UndecodableError(f"decodes to {shape} of {dtype}, expected {pixels} integers")
            received.append(np.empty(shape, dtype))
            return received[0].data

        try:
            response = child.ask(request, receive)
        except ChildError as error:
            if error.is_repeatable and source is not None:
                failed_files().remember(source, error.outcome)
            raise (UndecodableError if error.is_repeatable else DicomError)(_damaged(error.outcome)) from error
        if "error" in response:
            raise UndecodableError(f"cannot be decoded here ({_last_line(response['error'])})")
        return received[0]

    def _ready(self) -> tuple[ChildProcess, Path]:
        if self._folder is None or self._child is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ct2pet-")
            self._child = ChildProcess(
                PROGRAM, Path(self._folder.name), packages=("numpy", "SimpleITK"), timeout_s=SLICE_TIMEOUT_S
            )
        return self._child, Path(self._folder.name) / FILE


class DecoderPool:
    """A decoder, and thus a process, for each thread that asks for one; all end with the context."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._opened = ExitStack()
        self._opening = threading.Lock()

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def decoder(self) -> Decoder:
        """Return the decoder of this thread."""
        decoder: Decoder | None = getattr(self._own, "decoder", None)
        if decoder is None:
            with self._opening:
                decoder = self._own.decoder = self._opened.enter_context(Decoder())
        return decoder


def _damaged(outcome: str) -> str:
    return f"is damaged: decoding it {outcome}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"
