"""Source of the extension: Python 3.9, without packages that Slicer does not ship."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[3] / "slicer" / "CT2PET" / "CT2PETLib"
SOURCES = sorted(LIBRARY.parent.rglob("*.py"))
SHIPPED = {"requests", "numpy", "vtk", "slicer", "qt", "ctk", "SampleData"}
CLIENT = sorted(  # without access to the scene
    path for folder in ("client", "jobs") for path in (LIBRARY / folder).glob("*.py") if path.stem != "runner"
)
AFTER_3_9 = {
    ("itertools", "pairwise"), ("datetime", "UTC"), ("enum", "StrEnum"), ("contextlib", "chdir"),
    ("typing", "TypeAlias"), ("typing", "Self"), ("typing", "ParamSpec"), ("typing", "assert_never"),
}  # fmt: skip


def name_of(path: Path) -> str:
    return path.relative_to(LIBRARY.parent).as_posix()


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the top-level package of each import of a file, and the imported name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((str(node.module).split(".")[0], alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_source_is_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg for keyword in node.keywords}
            name = ast.unparse(node.func)
            assert not (name == "zip" and "strict" in keywords), f"line {node.lineno}: zip(strict=) requires 3.10"
            assert not (name == "dataclass" and keywords & {"slots", "kw_only"}), f"line {node.lineno}: requires 3.10"
    newer = AFTER_3_9 & set(imports(path))
    assert not newer, f"{newer} require a newer Python than 3.9"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_are_shipped_with_slicer(path: Path) -> None:
    foreign = {module for module, _ in imports(path)} - sys.stdlib_module_names
    assert foreign <= SHIPPED | {"CT2PETLib"}, f"{foreign - SHIPPED} are not shipped with Slicer"


@pytest.mark.parametrize("path", CLIENT, ids=name_of)
def test_client_imports_requests_and_numpy_only(path: Path) -> None:
    assert {module for module, _ in imports(path)} - sys.stdlib_module_names <= {"requests", "numpy", "CT2PETLib"}
    own = {
        str(node.module)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("CT2PETLib")
    }
    without_scene = ("CT2PETLib.client", "CT2PETLib.jobs", "CT2PETLib.i18n")
    foreign = {module for module in own if not module.startswith(without_scene)}
    assert not foreign, f"imports {foreign}, which may access the scene"


@pytest.mark.parametrize("path", CLIENT, ids=name_of)
def test_client_writes_no_file_and_no_log(path: Path) -> None:
    """Tokens, passwords and patients' images must not be written to disk."""
    text = path.read_text()
    for call in ("print(", "logging", 'open("w', "tempfile", "write_text", "write_bytes"):
        assert call not in text, f"{path.name} contains {call}"
