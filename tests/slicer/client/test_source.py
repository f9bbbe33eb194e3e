"""The extension's source: Python 3.9, and nothing that Slicer does not ship."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[3] / "slicer" / "CT2PET" / "CT2PETLib"
SOURCES = sorted(LIBRARY.parent.rglob("*.py"))
SHIPPED = {"requests", "numpy", "vtk", "slicer", "qt", "ctk", "SampleData"}
CLIENT = sorted(  # speaks with the server, and never touches the scene
    path for folder in ("client", "jobs") for path in (LIBRARY / folder).glob("*.py") if path.stem != "runner"
)
AFTER_3_9 = {
    ("itertools", "pairwise"), ("datetime", "UTC"), ("enum", "StrEnum"), ("contextlib", "chdir"),
    ("typing", "TypeAlias"), ("typing", "Self"), ("typing", "ParamSpec"), ("typing", "assert_never"),
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(LIBRARY.parent).as_posix()


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the top of each module a file imports from elsewhere, and the name taken from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((str(node.module).split(".")[0], alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_it_is_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            words = {word.arg for word in node.keywords}
            name = ast.unparse(node.func)
            assert not (name == "zip" and "strict" in words), f"line {node.lineno}: zip(strict=) is of 3.10"
            assert not (name == "dataclass" and words & {"slots", "kw_only"}), f"line {node.lineno}: of 3.10"
    taken = AFTER_3_9 & set(imports(path))
    assert not taken, f"{taken} came after 3.9"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_it_imports_nothing_of_ours_and_nothing_to_be_installed(path: Path) -> None:
    foreign = {module for module, _ in imports(path)} - sys.stdlib_module_names
    assert foreign <= SHIPPED | {"CT2PETLib"}, f"{foreign - SHIPPED} cannot be had in Slicer"


@pytest.mark.parametrize("path", CLIENT, ids=name_of)
def test_the_client_needs_requests_and_numpy_only(path: Path) -> None:
    assert {module for module, _ in imports(path)} - sys.stdlib_module_names <= {"requests", "numpy", "CT2PETLib"}
    own = {
        str(node.module)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("CT2PETLib")
    }
    foreign = {module for module in own if not module.startswith(("CT2PETLib.client", "CT2PETLib.jobs"))}
    assert not foreign, f"imports {foreign}, which may touch the scene"


@pytest.mark.parametrize("path", CLIENT, ids=name_of)
def test_the_client_writes_no_file_and_no_log(path: Path) -> None:
    """A token, a password or a patient's image that is never written anywhere cannot be found there."""
    text = path.read_text()
    for word in ("print(", "logging", 'open("w', "tempfile", "write_text", "write_bytes"):
        assert word not in text, f"{path.name} holds {word}"
