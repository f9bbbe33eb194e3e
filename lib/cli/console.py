"""Output: tables, JSON and lines to stdout; progress bars and messages to stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from lib import types

stdout = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
stderr = Console(stderr=True, highlight=False)


def progress_bar() -> AbstractContextManager[types.Progress]:
    """Return a context with a progress callback that updates a bar on stderr; without a terminal it does nothing."""
    return _progress_bar(TimeElapsedColumn())


def remaining_time_bar() -> AbstractContextManager[types.Progress]:
    """Return the same with the time that is left, for work of hours."""
    return _progress_bar(TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())


@contextmanager
def _progress_bar(*times: ProgressColumn) -> Iterator[types.Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, what: str) -> None:
            """Update the bar."""
            bar.update(task, completed=done, total=total, description=escape(what))

        yield update


def new_table(*headings: str, title: str | None = None) -> Table:
    """Return an empty table; a heading that begins with > is right-aligned, for numbers."""
    table = Table(show_lines=False, title=title, title_justify="left")
    for heading in headings:
        name = escape(heading.lstrip(">"))
        table.add_column(name, justify="right" if heading.startswith(">") else "left", overflow="fold")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text: brackets in names are not markup."""
    table.add_row(*map(escape, cells))


def print_line(text: str, console: Console = stdout) -> None:
    """Print plain text, without markup and without wrapping it to the terminal's width."""
    console.print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print dataclasses, paths and plain values as JSON to stdout."""

    def to_json(part: object) -> object:
        """Convert a value that `json` does not know."""
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            return dataclasses.asdict(part)
        return str(part)

    sys.stdout.write(json.dumps(value, default=to_json, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
