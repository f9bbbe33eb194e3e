"""Rules of the source that import contracts cannot state: who prints, how long files are, what a bare machine needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import REPOSITORY

MAX_LINES, MAX_FILES = 300, 18
BARE_MACHINE = {"torch", "monai", "numpy", "safetensors", "ignite"} | {"filelock"}  # torch requires it
# run as processes of their own, by the engine alone
CHILD_PROGRAMS = ("lib/dicom/pixel_data/decoder_main.py", "lib/imaging/files/reader_main.py")


def sources() -> list[Path]:
    folders = [REPOSITORY / name for name in ("lib", "ct2pet_app", "scripts", "slicer")]
    return [REPOSITORY / "main.py", *(path for folder in folders for path in sorted(folder.rglob("*.py")))]


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_the_engine_neither_prints_nor_parses_arguments() -> None:
    engine = [path for path in sources() if name_of(path).startswith("lib/")]
    for path in (path for path in engine if not name_of(path).startswith("lib/cli/")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called not in {"print", "input", "eval", "exec"}, f"{name_of(path)}:{node.lineno} calls {called}"
        assert "sys.argv" not in path.read_text() or name_of(path) in CHILD_PROGRAMS
        assert "argparse" not in path.read_text(), f"{name_of(path)} parses arguments"


def test_files_stay_readable() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in sources()}
    long = {name: count for name, count in lines.items() if count > MAX_LINES}
    assert not long, f"longer than {MAX_LINES} lines: {long}"


def test_folders_stay_readable() -> None:
    folders = {path.parent for path in sources()}
    files = {name_of(folder): sum(path.parent == folder for path in sources()) for folder in folders}
    full = {name: count for name, count in files.items() if count > MAX_FILES}
    assert not full, f"more than {MAX_FILES} files in one folder: {full}"


def test_learning_and_synthesis_need_only_torch_monai_numpy_safetensors_and_ignite() -> None:
    """On a bare GPU machine these packages run from prepared arrays: importing them must import nothing else."""
    program = """
import sys
import importlib, pkgutil
import lib
for layer in ("networks", "metrics", "learning", "synthesis"):
    package = importlib.import_module("lib." + layer)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
ours = [m for name, m in sys.modules.items() if name.startswith("lib.")]
print("\\n".join(sorted(m.__name__ for m in ours)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for module in done.stdout.split():
        path = REPOSITORY / (module.replace(".", "/") + ".py")
        path = path if path.is_file() else REPOSITORY / module.replace(".", "/") / "__init__.py"
        imported = {name.split(".")[0] for name in top_level_imports(path)} - {"lib", "__future__"}
        foreign = {name for name in imported if name not in sys.stdlib_module_names} - BARE_MACHINE
        assert not foreign, f"{module} is imported for learning and imports {foreign}"


def top_level_imports(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
