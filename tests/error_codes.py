"""Every code of an error, found in the source: those of the classes, of statuses, and of raise sites."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ct2pet_app import errors as _server_errors  # noqa: F401 - its classes are subclasses of the engine's error
from ct2pet_app.api.problem import CODES
from lib.errors import CT2PETError
from tests.servers import REPOSITORY

FRONT_ENDS = ("ct2pet_app", "lib")
COMMAND_LINE_ONLY = "lib/cli/"


def classes(of: type[CT2PETError] = CT2PETError) -> Iterator[type[CT2PETError]]:
    """Yield an error and every error below it."""
    yield of
    for child in of.__subclasses__():
        yield from classes(child)


def raised() -> dict[str, list[set[str]]]:
    """Return the codes that calls name, each with the params of every such call."""
    found: dict[str, list[set[str]]] = {}
    for folder in FRONT_ENDS:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                keywords = {word.arg: word.value for word in node.keywords if word.arg}
                params = set(keywords) - {"code", "headers", "params"}
                for code in _texts(keywords.get("code")):
                    found.setdefault(code, []).append(params)
    return found


def all_codes() -> set[str]:
    """Return every code that a response or a task's status can have."""
    return {kind.code for kind in classes()} | set(CODES.values()) | set(raised()) | {"task_failed", *UNEXPECTED}


UNEXPECTED = ("disk_full", "out_of_memory")  # of exceptions that are not the project's


def _texts(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
