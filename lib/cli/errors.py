"""Exit codes: 0 success, 1 internal error, 2 invalid input; an error is one line on stderr.

The engine's messages name no commands or options; `ADVICE` adds them, by the code of the error.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from string import Template

import typer

from lib.errors import CT2PETError, InputError

logger = logging.getLogger(__name__)

INTERNAL_ERROR, INVALID_INPUT = 1, 2
ADVICE = {
    "cohort_differs": "--out names another folder",
    "disk_too_small": "choose fewer patients with --patients, or another folder with --out",
    "download_interrupted": "run the same command again to resume",
    "invalid_manifest": "choose another folder with --out",
    "no_model_card": "`python main.py train` creates a model",
    "not_prepared": "run `python main.py prepare` first",
    "onnx_not_installed": "`pip install -r requirements-onnx.txt` installs them",
    "ray_not_installed": "`pip install -r requirements-ray.txt` installs it; --engine local does without",
    "run_exists": "--resume continues it, --out names another folder",
    "run_in_use": "--out names another folder",
    "series_not_found": "`python main.py scan` lists the series",
    "series_not_usable": "`python main.py scan` lists the series and their faults",
    "several_ct_series": "choose it with --series",
    "unlike_training_cts": "or synthesise its PET all the same with --allow-unlike",
    "users_file_unreadable": "`python main.py users add NAME --role admin --file FILE` creates one",
}


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


def advice(error: CT2PETError) -> str:
    """Return what to do about an error on the command line; empty if its message is enough."""
    return Template(ADVICE.get(error.code, "")).safe_substitute(error.params)


def message_with_advice(error: CT2PETError) -> str:
    """Return an error's message, followed by what to do about it on the command line."""
    return "; ".join(part for part in (str(error), advice(error)) if part)
