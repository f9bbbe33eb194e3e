"""Small words for Qt widgets. A property is an attribute in Slicer's PythonQt, and a method in other bindings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt


def get_property(widget: Any, name: str) -> Any:
    """Return a property of a widget, as `get_property(box, "currentText")`."""
    return widget.property(name)


def set_items(box: Any, words: Sequence[str]) -> None:
    """Offer these words in a combo box; the one that was chosen stays so where it is among them."""
    if [box.itemText(index) for index in range(get_property(box, "count"))] == list(words):
        return
    chosen = get_property(box, "currentText")
    box.clear()
    for word in words:
        box.addItem(word)
    if chosen in words:
        box.setCurrentIndex(list(words).index(chosen))


def set_rows(table: Any, rows: Sequence[Sequence[str]]) -> None:
    """Put rows of words into a table widget in place of what it held; the chosen row stays chosen."""
    chosen = table.currentRow()
    table.setRowCount(len(rows))
    for row, words in enumerate(rows):
        for column, word in enumerate(words):
            cell = qt.QTableWidgetItem(word)
            cell.setToolTip(word)
            table.setItem(row, column, cell)
    header = table.horizontalHeader()
    header.setStretchLastSection(False)  # else the last column keeps the width it had before
    table.resizeColumnsToContents()
    header.setStretchLastSection(True)
    if 0 <= chosen < len(rows):
        table.setCurrentCell(chosen, 0)


def number(value: float, decimals: int = 2) -> str:
    """Return a number for a table; a dash where it is undefined."""
    return "–" if value != value else f"{value:.{decimals}f}"


def span(seconds: float) -> str:
    """Return a time for people: 4 s, 1 min 20 s."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
