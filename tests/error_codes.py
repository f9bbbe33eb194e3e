"""Every code of an error, found in the source: those of the classes, of statuses, and of raise sites."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

import ct2pet_app.app  # noqa: F401 - imports the modules that define errors
import lib.dicom.remote.pacs  # noqa: F401
from ct2pet_app.errors import http_status
from ct2pet_app.problem import CODES, MEDIA_TYPE, Problem
from ct2pet_app.validation import BoundaryModel
from lib.errors import CT2PETError
from tests.server.processes import REPOSITORY

UNEXPECTED = {"disk_full", "out_of_memory", "task_failed"}  # of what is not an error of ours
NOT_CALLED = {"code", "headers", "params"}


@dataclass(frozen=True)
class Raised:
    """A call that makes an error: where, its code, the names of its params, and its text, `7` for what is filled in.

    Attributes:
        status: Of HTTP; None where the call decides it.
    """

    place: str
    code: str
    status: int | None
    params: frozenset[str]
    text: str


def errors(of: type[CT2PETError] = CT2PETError) -> Iterator[type[CT2PETError]]:
    """Yield an error and every error below it, as MONAI Label does not load them a second time."""
    if of.__module__.startswith(("lib.", "ct2pet_app.")):
        yield of
    for child in of.__subclasses__():
        yield from errors(child)


def all_codes() -> set[str]:
    """Return every code that an error, a response or a task's status can have."""
    classes, raise_sites = {kind.code for kind in errors()}, {one.code for one in raised()}
    return classes | set(CODES.values()) | raise_sites | field_codes() | UNEXPECTED


def field_codes() -> set[str]:
    """Return the codes of single fields of a request; they are always raised as RequestError."""
    return {code for kind in BoundaryModel.__subclasses__() for code in kind.error_codes.values()}


@functools.cache
def raised() -> tuple[Raised, ...]:
    """Return every call in the source that makes an error."""
    return tuple(_raised())


def check_problem(response: requests.Response) -> dict[str, Any]:
    """Return the problem that a server responds with, its form and its code checked."""
    assert response.headers["Content-Type"] == MEDIA_TYPE, response.text[:500]
    problem: dict[str, Any] = response.json()
    Problem.model_validate(problem, strict=True)
    assert problem["status"] == response.status_code and problem["code"] in all_codes()
    return problem


def _raised() -> Iterator[Raised]:
    kinds = {kind.__name__: kind for kind in errors()}
    for folder in ("lib", "ct2pet_app"):
        for path in sorted(set((REPOSITORY / folder).rglob("*.py")) - set((REPOSITORY / "lib" / "cli").rglob("*.py"))):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
                    kind = kinds.get(node.func.id)
                    found = list(_texts(keywords.get("code"))) or ([kind.code] if kind else [])
                    status = http_status(kind("")) if kind else None
                    place = f"{path.relative_to(REPOSITORY)}:{node.lineno}"
                    text = "".join(_text(argument) for argument in node.args)
                    params = frozenset(keywords) - NOT_CALLED
                    yield from (Raised(place, code, status, params, text) for code in found)


def _texts(node: ast.AST | None) -> Iterator[str]:
    """Yield the texts that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "7"
