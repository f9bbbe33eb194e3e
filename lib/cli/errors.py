"""Exit codes: 0 success, 1 internal error, 2 invalid input; an error is one line on stderr."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence

import typer

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
    except InputError as error:
        return _fail(error, str(error), code=INVALID_INPUT)
    except CT2PETError as error:
        return _fail(error, str(error), code=INTERNAL_ERROR)
    except Exception as error:
        message = f"unexpected {type(error).__name__}: {error}; for a traceback, put --debug before the command"
        return _fail(error, message, code=INTERNAL_ERROR)
    return 0


def _fail(error: Exception, message: str, *, code: int) -> int:
    logger.debug("traceback", exc_info=error)
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code
