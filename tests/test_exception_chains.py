"""No exception becomes its own cause, so that walking a chain of causes always ends."""

from __future__ import annotations

import ast
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from ct2pet_app.server.exception_handlers import is_no_space
from tests.test_architecture import name_of, sources


def functions_that_return_an_argument(paths: list[Path]) -> set[str]:
    """Return the names of functions of which a `return` may hand back one of their own parameters."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                parameters = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
                returns = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return)]
                returned = {name for value in returns for name in names_of(value)}
                if returned & parameters:
                    found.add(node.name)
    return found


def names_of(expression: ast.expr | None) -> Iterator[str]:
    """Yield the bare names that an expression may evaluate to, through `a if c else b` and `a or b`."""
    waiting = [expression]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ast.Name):
            yield value.id
        elif isinstance(value, ast.IfExp):
            waiting += [value.body, value.orelse]
        elif isinstance(value, ast.BoolOp):
            waiting += value.values


def own_causes(paths: list[Path]) -> list[str]:
    """Return the places where an exception may be raised from itself."""
    handing_back = functions_that_return_an_argument(paths)
    places = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Raise) or node.cause is None or node.exc is None:
                continue
            cause = ast.unparse(node.cause)
            itself = cause in {ast.unparse(node.exc), *names_of(node.exc)}
            if isinstance(node.exc, ast.Call):
                called = ast.unparse(node.exc.func).rsplit(".", 1)[-1]
                itself = called in handing_back and cause in map(ast.unparse, node.exc.args)
            if itself:
                places.append(f"{name_of(path)}:{node.lineno} {ast.unparse(node)}")
    return places


def test_no_exception_is_raised_from_itself() -> None:
    assert own_causes(sources()) == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    pass\nexcept OSError as error:\n    raise error from error\n",
        "try:\n    pass\nexcept OSError as error:\n    raise error if error.args else OSError() from error\n",
        "def same(error):\n    return ValueError() if error.args else error\n\n"
        "try:\n    pass\nexcept OSError as error:\n    raise same(error) from error\n",
    ],
)
def test_the_search_finds_a_planted_one(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_architecture.REPOSITORY", tmp_path)
    planted = tmp_path / "planted.py"
    planted.write_text(source)
    assert len(own_causes([planted])) == 1


def cycle_of(*errors: Exception) -> Exception:
    for error, cause in zip(errors, (*errors[1:], errors[0]), strict=True):
        error.__cause__ = cause
    return errors[0]


def test_a_cycle_of_causes_is_walked_once() -> None:
    assert not is_no_space(cycle_of(ValueError("one")))
    assert not is_no_space(cycle_of(ValueError("one"), KeyError("two"), RuntimeError("three")))
    assert is_no_space(cycle_of(ValueError("one"), OSError(errno.ENOSPC, "full")))
