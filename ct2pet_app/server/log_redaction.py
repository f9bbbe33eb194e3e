"""Redact logs: no patient's names, and one line per record.

MONAI Label logs requests, including names of uploaded files, and the output of its child processes; warnings of
libraries contain values and file names. Records of ct2pet contain UIDs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import TextIO

from lib.imaging.files.volume_file import silence_readers

TALKATIVE = ("monailabel", "multipart", "python_multipart", "urllib3", "PIL")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
MIN_NAME_LENGTH = 4  # replacing shorter ones would affect common words
SERVER_PROGRAM, TASK_FILE = "monailabel.main", "task_main.py"
WARNING_PLACE = re.compile(r"([\w.-]+\.py:\d+): (\w+)")


class RedactingFilter(logging.Filter):
    """Replaces names of files and folders, which may contain patients' names, and makes a record one line.

    Errors contain the names of files; the client receives them, but others can read the log.
    """

    def __init__(self, names_on_disk: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self._names_on_disk = names_on_disk

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record and return True."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit; logging would print them with a traceback
            message = f"a record of {record.name} that cannot be formatted, at {record.filename}:{record.lineno}"
        if record.name == "py.warnings":  # its message may contain a header's value, or a path
            found = WARNING_PLACE.search(message)
            message = f"{found[2]} at {found[1]}" if found else "a warning of a library"
        if record.name == "asyncio":  # its further lines hold tasks, futures and the messages of their exceptions
            message = message.partition("\n")[0]
        message = without_names(message, [*self._names_on_disk(), *_upload_names()])
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None:
            message = f"{message.rstrip()}: {where(error)}"
        record.msg, record.args = CONTROL.sub(lambda sign: repr(sign[0])[1:-1], message), None
        record.exc_info = record.exc_text = record.stack_info = None  # their lines hold messages, and so names
        return True


def install_redaction(names_on_disk: Callable[[], Sequence[str]]) -> None:
    """Install the redaction in this process.

    Args:
        names_on_disk: Returns the names of the studies' files and the paths of their folders, longest first, fast.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    silence_readers()
    loggers = [logging.getLogger(), *map(logging.getLogger, tuple(logging.Logger.manager.loggerDict))]
    handlers = {handler for logger in loggers for handler in logger.handlers}
    for handler in (*handlers, *([logging.lastResort] if logging.lastResort else [])):
        for kept in [kept for kept in handler.filters if type(kept).__name__ == RedactingFilter.__name__]:
            handler.removeFilter(kept)  # of an app created before
        handler.addFilter(RedactingFilter(names_on_disk))
    if _is_own_process():  # not in tests
        sys.excepthook, threading.excepthook = _print_uncaught, _print_uncaught_of_thread
        if not isinstance(sys.stderr, RedactedStream):
            sys.stderr = RedactedStream(sys.stderr, names_on_disk)


class RedactedStream(io.TextIOBase):
    """A text stream that writes without names."""

    def __init__(self, stream: TextIO, names_on_disk: Callable[[], Sequence[str]]) -> None:
        self._stream, self._names_on_disk = stream, names_on_disk

    def write(self, text: str) -> int:
        """Write a text without names."""
        self._stream.write(without_names(text, [*self._names_on_disk(), *_upload_names()]))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()


_uploads: dict[int, list[str]] = {}


@contextlib.contextmanager
def uploads_in_progress() -> Iterator[list[str]]:
    """Yield a list for the file names of a request's uploads; they stay out of the log until the request is done."""
    names: list[str] = []
    _uploads[id(names)] = names
    try:
        yield names
    finally:
        del _uploads[id(names)]


def _upload_names() -> list[str]:
    """Return all forms in which the name of an upload may be logged, longest first."""
    forms: set[str] = set()
    for name in [name for names in tuple(_uploads.values()) for name in tuple(names)]:
        last = PureWindowsPath(PurePosixPath(name).name).name
        forms |= {name, last, last[-100:], last.partition(".")[0], repr(name)[1:-1]}
    return sorted((form for form in forms if len(form) >= MIN_NAME_LENGTH), key=len, reverse=True)


def _is_own_process() -> bool:
    """Return whether this process is the server, or one that it started for a task."""
    main = sys.modules.get("__main__")
    module = getattr(getattr(main, "__spec__", None), "name", "")
    return module == SERVER_PROGRAM or Path(getattr(main, "__file__", None) or "").name == TASK_FILE


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.stderr.write(f"uncaught {where(error.with_traceback(trace))}\n")


def _print_uncaught_of_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not issubclass(arguments.exc_type, SystemExit):
        _print_uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def where(error: BaseException) -> str:
    """Return the type of an error and its code lines, without its message, which may contain data of the request."""
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"{type(error).__name__} at {' > '.join(lines[-6:])}"


def without_names(message: str, names: Sequence[str]) -> str:
    """Return a sentence in which each separate name is replaced by `a file`; names that contain others come first."""
    for name in names:
        if name in message:
            message = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "a file", message)
    return message
