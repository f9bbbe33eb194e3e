"""The Typer application and the options of every command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import typer

import lib
from lib.cli.console import print_line


def create_app(commands: Iterable[Callable[..., None]], groups: Mapping[str, typer.Typer]) -> typer.Typer:
    """Return the application.

    Args:
        commands: Functions, each a command of the same name; `--help` lists them in this order.
        groups: Applications with commands of their own, by name.
    """
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        help="Synthesise PET from CT, slice by slice, and train models on your own studies. Research only, not for "
        "diagnosis.\n\nStart with `scan STUDIES` to list the series in a folder, then `pair STUDIES` to list the "
        "CT/PET pairs that can be used for training.",
    )
    app.callback()(configure_logging)
    for command in commands:
        app.command()(command)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _print_version(requested: bool) -> None:
    """Print the version and end."""
    if requested:
        print_line(f"ct2pet {lib.__version__}")
        raise typer.Exit


def configure_logging(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="CT2PET_DEBUG", help="Log details, and a traceback for an internal error."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Log to stderr."""
    del version
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s: %(message)s", force=True)
    logging.getLogger("lib").setLevel(logging.DEBUG if debug else logging.INFO)
    # ignite logs each exception that passes through it; ours would be reported twice
    logging.getLogger("ignite").setLevel(logging.NOTSET if debug else logging.CRITICAL)
