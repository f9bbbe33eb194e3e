"""What a suite reports: its figures, and what was not as it should be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

# statuses above 499 that say in a sentence what is missing: no PACS, no free capacity, no room on the disk
ALLOWED_SERVER_ERRORS = (502, 503, 504, 507)


class HasStatus(Protocol):
    """A response, of whatever library."""

    status_code: int

    @property
    def text(self) -> str:
        """Return its body."""


@dataclass
class Reply:
    """A response that was read by hand."""

    status_code: int
    text: str


@dataclass
class Result:
    """Of one suite.

    Attributes:
        suite: Its name.
        figures: Numbers for the JSON report.
        rows: One a case, for the table: name, status, and what was measured.
        violations: Sentences; empty where the suite is passed.
    """

    suite: str
    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Return whether nothing was violated."""
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """Return the report of the suite."""
        return {
            "suite": self.suite,
            "passed": self.passed,
            **self.figures,
            "violations": self.violations,
            "cases": self.rows,
        }


def find_violation(response: HasStatus) -> str:
    """Return what is wrong with a response to an attack; empty where it is a success or refused in a sentence."""
    if response.status_code < 400:
        return ""
    text = response.text
    if response.status_code >= 500 and response.status_code not in ALLOWED_SERVER_ERRORS:
        return f"{response.status_code} {text[:200]}"
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} without a JSON detail: {text[:200]}"
    if not isinstance(detail, str) or len(detail.split()) < 4:
        return f"{response.status_code} without a sentence: {text[:200]}"
    return ""
