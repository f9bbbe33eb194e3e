"""Helpers for Qt widgets. A property is an attribute in Slicer's PythonQt, and a method in other bindings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import qt

import slicer
from CT2PETLib.i18n import _
from CT2PETLib.jobs.events import UploadProgress

DARK_LIGHTNESS = 128  # of a window; below it Slicer's style is dark


def get_property(widget: Any, name: str) -> Any:
    """Return a property of a widget, such as `get_property(box, "currentText")`."""
    return widget.property(name)


def set_items(box: Any, items: Sequence[str]) -> None:
    """Set the items of a combo box; the current one stays current if it is still among them."""
    if [box.itemText(index) for index in range(get_property(box, "count"))] == list(items):
        return
    current = get_property(box, "currentText")
    box.clear()
    for item in items:
        box.addItem(item)
    if current in items:
        box.setCurrentIndex(list(items).index(current))


def set_rows(table: Any, rows: Sequence[Sequence[str]], *, elide_last: bool = False) -> None:
    """Replace the rows of a table widget; the current row number stays current.

    Args:
        table: The table widget.
        rows: Texts of the cells.
        elide_last: Shorten the text of the last column to the width that is left; its tooltip has all of it.
    """
    current = table.currentRow()
    table.setRowCount(len(rows))
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            cell = qt.QTableWidgetItem(text)
            cell.setToolTip(text)
            table.setItem(row, column, cell)
    header = table.horizontalHeader()
    header.setStretchLastSection(False)  # otherwise the last column keeps its previous width
    table.resizeColumnsToContents()
    if elide_last:
        table.setColumnWidth(get_property(table, "columnCount") - 1, get_property(header, "minimumSectionSize"))
    header.setStretchLastSection(True)
    if 0 <= current < len(rows):
        table.setCurrentCell(current, 0)


def format_number(value: float, decimals: int = 2) -> str:
    """Return a number for a table; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"


def format_duration(seconds: float) -> str:
    """Return a duration such as 4 s or 1 min 20 s."""
    rounded = max(0, round(seconds))
    minutes, rest = divmod(rounded, 60)
    if not minutes:
        return _("{seconds} s").format(seconds=rest)
    return _("{minutes} min {seconds} s").format(minutes=minutes, seconds=rest)


def sent_text(what: str, progress: UploadProgress) -> str:
    """Return how much of something was sent, such as `Sending the CT: 12.5 of 80.2 MB`."""
    return _("{what}: {done:.1f} of {total:.1f} MB").format(
        what=what, done=progress.done / 1e6, total=progress.total / 1e6
    )


def show_or_hide(label: Any, text: str) -> None:
    """Show text in a label; an empty text hides the label."""
    label.setText(text)
    label.setVisible(bool(text))


def text_style(*, is_error: bool) -> str:
    """Return the style sheet of a message; an error is vermilion, with enough contrast in a light or dark window."""
    if not is_error:
        return ""
    is_dark = slicer.app.palette().color(qt.QPalette.Window).lightness() < DARK_LIGHTNESS
    return f"color: {'#ff9a57' if is_dark else '#a84300'};"
