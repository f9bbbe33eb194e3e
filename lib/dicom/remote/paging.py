"""Collection of the rows of a QIDO-RS search from its pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

PAGE = 500  # rows per request; a PACS may return fewer
Row = TypeVar("Row")


def collect_pages(
    page_at: Callable[[int], Sequence[Row | None]], key: Callable[[Row], str], *, limit: int
) -> dict[str, Row]:
    """Return the rows of all pages by their key, until a page has no new one, or more than `limit` were found.

    Page sizes vary, and some PACS ignore the offset, so that neither says which page is the last.

    Args:
        page_at: Returns the page that begins after so many rows; None for an invalid row.
        key: What distinguishes rows.
        limit: The number of rows after which no further page is requested.
    """
    found: dict[str, Row] = {}
    rows = 0
    while len(found) <= limit:
        page = page_at(rows)
        rows += len(page)
        new = {key(row): row for row in page if row is not None and key(row) not in found}
        if not new:
            break
        found |= new
    return found
