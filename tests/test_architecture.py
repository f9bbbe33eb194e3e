"""The house's rules, proved on the source: imports point one way, fences hold, doors alone print."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Rank in "imports point one way" (DESIGN): a folder may import what stands left of it. Equal rank: neither.
LAYERS = {
    "errors": 0,
    "unfinished": 0,
    "types": 1,
    "accounts": 1,
    "memory": 2,
    "imaging": 2,
    "dicom": 3,
    "pairing": 4,
    "sources": 4,
    "networks": 5,
    "measures": 5,
    "learning": 6,
    "synthesis": 7,
    "evaluation": 8,
    "cli": 9,
}
FENCES = {
    "pydicom": ("lib/dicom/", "lib/sources/"),
    "SimpleITK": ("lib/imaging/", "lib/dicom/"),
    # the benchmark counts operations and waits for the device, which is torch's alone
    "torch": (
        "lib/networks/",
        "lib/measures/",
        "lib/learning/",
        "lib/synthesis/",
        "lib/evaluation/",
        "scripts/benchmark.py",
        "scripts/benchmarks/network.py",
    ),
    "monailabel": ("ct2pet_app/",),
    "typer": ("main.py",),
    "argparse": ("scripts/",),
    "rich": ("main.py", "scripts/"),
}
ALLOWED_ON_A_BARE_MACHINE = {"torch", "monai", "numpy", "safetensors", "ignite"}


def sources() -> list[Path]:
    folders = [ROOT / "lib", ROOT / "ct2pet_app", ROOT / "scripts", ROOT / "slicer"]
    return [ROOT / "main.py", *(path for folder in folders for path in sorted(folder.rglob("*.py")))]


def imports(path: Path) -> Iterator[str]:
    """Yield every module a file imports, anywhere in it, except for type checkers only."""
    tree = ast.parse(path.read_text())
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_point_to_the_left(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "lib" or len(parts) < 2 or parts[1] == "__init__":
        return
    own = parts[1]
    assert own in LAYERS, f"{own} is a new layer; DESIGN.md names {', '.join(LAYERS)}"
    for module in imports(path):
        if module.startswith("lib.") and (layer := module.split(".")[1]) != own:
            assert LAYERS[layer] < LAYERS[own], f"{name_of(path)} imports {module}, which stands right of it"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_fences_hold(path: Path) -> None:
    for module in imports(path):
        package = module.split(".")[0]
        places = FENCES.get(package)
        assert places is None or name_of(path).startswith(places), f"{name_of(path)} imports {package}: only {places}"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_doors_never_import_each_other(path: Path) -> None:
    door = name_of(path).split("/")[0].removesuffix(".py")
    for module in imports(path):
        first = module.split(".")[0]
        assert first not in {"main", "ct2pet_app", "scripts"} or first == door, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", [p for p in sources() if name_of(p).startswith("slicer/")], ids=name_of)
def test_the_slicer_extension_imports_nothing_of_ours(path: Path) -> None:
    ours = {module for module in imports(path) if module.split(".")[0] in {"lib", "ct2pet_app", "main", "scripts"}}
    assert not ours, f"{name_of(path)} imports {ours}; it speaks HTTP"


# run as processes of their own, by the engine alone
DECODER_PROGRAMS = ("lib/dicom/pixel_data/decoder_main.py", "lib/imaging/files/reader_main.py")


@pytest.mark.parametrize("path", [p for p in sources() if name_of(p).startswith("lib/")], ids=name_of)
def test_the_engine_neither_prints_nor_parses_arguments(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        assert called not in {"print", "input", "eval", "exec"}, f"{name_of(path)}:{node.lineno} calls {called}"
    assert "sys.argv" not in path.read_text() or name_of(path) in DECODER_PROGRAMS


def test_no_circles_inside_a_folder() -> None:
    graph = {}
    for path in sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        graph[".".join(parts)] = [m for m in imports(path) if m.split(".")[0] == parts[0] and m != ".".join(parts)]

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join((*trail, module))}"
        for imported in graph.get(module, []):
            visit(imported, (*trail, module))

    for module in graph:
        visit(module, ())


def test_files_stay_readable() -> None:
    # main.py is one file by the user's wish: the doors may not import one another, and the engine may not print
    lines = {name_of(path): len(path.read_text().splitlines()) for path in sources() if path != ROOT / "main.py"}
    long = {name: count for name, count in lines.items() if count > 300}
    assert not long, f"past 300 lines, split: {long}"


def test_learning_and_synthesis_need_only_torch_monai_numpy_safetensors_and_ignite() -> None:
    """On a bare GPU machine these layers run from prepared arrays: importing them must pull nothing else of ours."""
    program = """
import sys
import importlib, pkgutil
import lib
for layer in ("networks", "measures", "learning", "synthesis"):
    package = importlib.import_module("lib." + layer)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module("lib." + layer + "." + module.name)
ours = [m for name, m in sys.modules.items() if name.startswith("lib.")]
print("\\n".join(sorted(m.__name__ for m in ours)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for module in done.stdout.split():
        path = ROOT / (module.replace(".", "/") + ".py")
        path = path if path.is_file() else ROOT / module.replace(".", "/") / "__init__.py"
        outside = {name.split(".")[0] for name in top_level_imports(path)} - {"lib", "__future__"}
        foreign = {name for name in outside if name not in sys.stdlib_module_names} - ALLOWED_ON_A_BARE_MACHINE
        assert not foreign, f"{module} is loaded for learning and imports {foreign}"


def top_level_imports(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
