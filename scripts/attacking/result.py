"""The result of a suite: its metrics and violations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

# expected server errors with a sentence: no PACS, no free capacity, no disk space
ALLOWED_SERVER_ERRORS = (502, 503, 504, 507)


class HasStatus(Protocol):
    """A response of any HTTP library."""

    status_code: int

    @property
    def text(self) -> str:
        """The body."""


@dataclass
class Reply:
    """A response that `http.client` has read."""

    status_code: int
    text: str


@dataclass
class Result:
    """The result of one suite.

    Attributes:
        suite: Name of the suite.
        metrics: Values for the JSON report.
        rows: One row per case: name, statuses, measurements.
        violations: One sentence each; empty if the suite passed.
    """

    suite: str
    metrics: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether there is no violation."""
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """Return the result as an object for the JSON report."""
        return {
            "suite": self.suite,
            "passed": self.passed,
            **self.metrics,
            "violations": self.violations,
            "cases": self.rows,
        }


def find_violation(response: HasStatus) -> str:
    """Return what is wrong with a response to an attack; empty for a success or an error with a sentence."""
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
