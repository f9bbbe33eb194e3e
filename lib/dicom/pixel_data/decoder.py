"""Compressed pixels (JPEG, JPEG-LS, JPEG 2000, RLE), decoded by GDCM in a process of its own.

GDCM's codecs end the process on some damaged files (a division by zero, a segmentation fault) and ask for any memory
that a codestream names. Such a file costs the decoder, not the server that reads it.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import DicomError, UndecodableError
from lib.imaging.files.child_process import ChildError, ChildProcess
from lib.imaging.files.failed_files import failed_files

FILE = "slice.dcm"  # whatever the file was called where it came from
PROGRAM = Path(__file__).with_name("decoding.py")
SLICE_TIMEOUT_S = 120.0  # on the clock, of a machine that does much else
START_CPU_S = 10.0  # of processor time; loading the libraries takes half a second
SLICE_CPU_S = 0.5  # a slice of 512 x 512 takes 0.02
MEGAPIXEL_CPU_S = 2.0  # JPEG 2000 takes 0.3
FIXED_BYTES = 2**26  # beyond the libraries
PIXEL_BYTES = 48  # codecs hold some copies of a slice, in numbers of up to 32 bits; measured: at most 30
FILE_BYTES = 6  # and of the file


class Decoder:
    """A decoder for the slices of a series; its process starts with the first slice and ends with the block."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None
        self._cpu_total_s = START_CPU_S  # of the series: slow slices have what quick ones leave

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child is not None:
            self._child.end()
        if self._folder is not None:
            self._folder.cleanup()
        self._child = self._folder = None

    def decode(self, file: bytes, *, pixels: int, source: Path | None = None) -> NDArray[Any]:
        """Return the pixels of one file as GDCM decodes and rescales them.

        Args:
            file: DICOM, with a header of ours.
            pixels: How many its header announces; no other number comes back.
            source: Where it is from. A file that once ended or stalled a decoder is not given to another one.

        Raises:
            UndecodableError: It cannot be decoded, ends the decoder, or takes too long; the message goes on after the
                name of the compression.
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

        def receive(answer: dict[str, Any]) -> memoryview:
            """Make room for the pixels."""
            shape, dtype = tuple(answer["shape"]), np.dtype(answer["dtype"])
            if math.prod(shape) != pixels or dtype.kind not in "iu" or dtype.itemsize > 4:
                raise UndecodableError(f"decodes to {shape} of {dtype}, expected integers, {pixels} in all")
            received.append(np.empty(shape, dtype))
            return received[0].data

        try:
            answer = child.ask(request, receive)
        except ChildError as error:
            if error.is_repeatable and source is not None:
                failed_files().remember(source, error.outcome)
            raise (UndecodableError if error.is_repeatable else DicomError)(_damaged(error.outcome)) from error
        if "error" in answer:
            raise UndecodableError(f"cannot be decoded here ({_last_line(answer['error'])})")
        return received[0]

    def _ready(self) -> tuple[ChildProcess, Path]:
        if self._folder is None or self._child is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ct2pet-")
            self._child = ChildProcess(
                PROGRAM, Path(self._folder.name), packages=("numpy", "SimpleITK"), timeout_s=SLICE_TIMEOUT_S
            )
        return self._child, Path(self._folder.name) / FILE


def _damaged(outcome: str) -> str:
    return f"is damaged: decoding it {outcome}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"
