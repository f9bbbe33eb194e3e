"""Exit codes: 0 success, 1 internal error, 2 invalid input; an error is one line on stderr."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence

import typer

from lib.cli.advice import message_with_advice
from lib.errors import CT2PETError, InputError

logger = logging.getLogger(__name__)

INTERNAL_ERROR, INVALID_INPUT = 1, 2


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        app: The application.
        arguments: Those of the process when not given.
    """
    for stream in (sys.stdout, sys.stderr):  # file names may be bytes that are not valid text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments)
    except SystemExit as finished:  # raised by Typer: 0, or 2 for invalid arguments
        return finished.code if isinstance(finished.code, int) else INTERNAL_ERROR
    except CT2PETError as error:
        code = INVALID_INPUT if isinstance(error, InputError) else INTERNAL_ERROR
        return _fail(error, message_with_advice(error), code=code)
    except Exception as error:
        message = f"unexpected {type(error).__name__}: {error}; for a traceback, put --debug before the command"
        return _fail(error, message, code=INTERNAL_ERROR)
    return 0


def _fail(error: Exception, message: str, *, code: int) -> int:
    logger.debug("traceback", exc_info=error)
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code
