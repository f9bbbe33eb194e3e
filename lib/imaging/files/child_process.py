"""Run a library that reads untrusted data in a child process, so that a crash or stall affects only the child.

The child is a small program. The first line of JSON on its standard input has the paths of its packages; each further
line is a request. The response on its standard output is a line of JSON, the content, and a second line, or a single
line with an error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

MAX_LINE_BYTES = 2**20
CHUNK_BYTES = 2**20
ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {  # the complete environment: no variables of the server, no threads in libraries
    "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
}  # fmt: skip
FAULTS = frozenset({signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP})


class ChildError(Exception):
    """The child did not respond.

    Attributes:
        outcome: What happened, as a clause that follows the name of the file.
        is_repeatable: Whether the same data would fail again, independent of the load and of other processes.
    """

    def __init__(self, outcome: str, *, is_repeatable: bool) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.is_repeatable = is_repeatable


class ChildProcess:
    """A child process that is started at the first request, and again after a request that ended it.

    Args:
        program: Path of a program that calls `serve` of `child_main.py`, or uses the same protocol.
        folder: Working directory of the child, with the files to read.
        packages: Names of packages that it imports; they need not be loaded here.
        argument: Argument of the program.
        timeout_s: Wall-clock limit of a response; the child's limit of processor time is usually stricter.
    """

    def __init__(
        self, program: Path, folder: Path, *, packages: Sequence[str], timeout_s: float, argument: str = ""
    ) -> None:
        self._program, self._folder, self._timeout_s, self._argument = program, folder, timeout_s, argument
        self._paths = list(dict.fromkeys(_folder_of(package) for package in packages))
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def ask(self, request: Mapping[str, Any], receive: Callable[[dict[str, Any]], memoryview]) -> dict[str, Any]:
        """Return the response to a request.

        Args:
            request: Plain values, with `memory_bytes`, `cpu_s` and `cpu_total_s` as in `child_main.serve`.
            receive: Called with the line of a response without `error`; returns the buffer for the content. Its
                exceptions end the child.

        Raises:
            ChildError: The child ended, exceeded the timeout, or sent an invalid response.
        """
        deadline = time.monotonic() + self._timeout_s
        try:
            self._start()
            self._send(request)
            response = json.loads(self._line(deadline))
            if not isinstance(response, dict):
                raise EOFError
            if "error" not in response:
                self._fill(receive(response), deadline)
                response |= json.loads(self._line(deadline))
        except TimeoutError as error:
            self.end()
            raise ChildError(f"takes over {self._timeout_s:.0f} s", is_repeatable=False) from error
        except (OSError, EOFError, ValueError) as error:
            raise self._ended() from error
        except BaseException:
            self.end()
            raise
        return response

    def end(self) -> None:
        """Kill the child."""
        if self._process is None:
            return
        self._process.kill()
        with contextlib.suppress(OSError, ValueError):  # input that it has not read
            self._process.communicate()
        self._process = None

    def _start(self) -> None:
        if self._process is None:
            # -I: no variables, no user packages, no program folder in sys.path; -S: no site-packages with .pth files
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(self._program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._folder,
                env=ENVIRONMENT,
                start_new_session=True,
            )
            self._pending = b""
            setup = {"parent": os.getpid(), "paths": [*self._paths, str(ROOT)], "argument": self._argument}
            self._send(setup)

    def _send(self, values: Mapping[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(values).encode() + b"\n")
        self._process.stdin.flush()

    def _ended(self) -> ChildError:
        """Return why the child ended; kill it if it is alive and sent an invalid response."""
        assert self._process is not None
        try:
            status = self._process.wait(1.0)  # its pipes close shortly before it ends
        except subprocess.TimeoutExpired:
            status = 0
        self.end()
        if status == -signal.SIGXCPU:
            return ChildError("takes more processor time than any such file needs", is_repeatable=True)
        if status == -signal.SIGKILL:  # by the system, out of memory, or by another process
            return ChildError("was broken off", is_repeatable=False)
        return ChildError("ends the decoder", is_repeatable=-status in FAULTS)

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._pending:
            if len(self._pending) > MAX_LINE_BYTES:
                raise EOFError
            piece = bytearray(CHUNK_BYTES)
            self._pending += piece[: self._read(memoryview(piece), deadline)]
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _fill(self, buffer: memoryview, deadline: float) -> None:
        view = buffer.cast("B")
        count = min(len(view), len(self._pending))
        view[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        while count < len(view):
            count += self._read(view[count : count + CHUNK_BYTES], deadline)

    def _read(self, view: memoryview, deadline: float) -> int:
        """Read some bytes into a buffer; return their number."""
        assert self._process is not None and self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        count = os.readv(self._process.stdout.fileno(), [view])
        if not count:
            raise EOFError
        return count


def _folder_of(package: str) -> str:
    """Return the folder that a package is imported from, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, package
    return str(Path(spec.origin).resolve().parents[1])
