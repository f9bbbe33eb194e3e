"""The import contracts of pyproject.toml hold, and each of them fails where its rule is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TREES = {"lib": "lib", "ct2pet_app": "ct2pet_app", "scripts": "scripts", "CT2PETLib": "slicer/CT2PET/CT2PETLib"}
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
# one violation of each contract: contract, file, import
VIOLATIONS = {
    "layers": ("lib/imaging/planted_layers.py", "import lib.learning.recipe"),
    "front-ends": ("scripts/planted_front_ends.py", "import ct2pet_app.errors"),
    "engine": ("lib/learning/planted_engine.py", "import ct2pet_app.errors"),
    "command-line": ("ct2pet_app/planted_command_line.py", "import lib.cli"),
    "slicer": ("slicer/CT2PET/CT2PETLib/planted_slicer.py", "import lib.errors"),
    "pydicom": ("lib/pairing/planted_pydicom.py", "import pydicom"),
    "simpleitk": ("lib/pairing/planted_simpleitk.py", "import SimpleITK"),
    "nibabel": ("lib/learning/planted_nibabel.py", "import nibabel"),
    "torch": ("lib/pairing/planted_torch.py", "def late() -> None:\n    import torch.nn"),
    "monailabel": ("lib/learning/planted_monailabel.py", "from monailabel.config import settings"),
    "fastapi": ("scripts/planted_fastapi.py", "import fastapi"),
    "typer": ("lib/evaluation/planted_typer.py", "import typer"),
    "rich": ("ct2pet_app/planted_rich.py", "from rich.console import Console"),
    "pydantic": ("lib/pairing/planted_pydantic.py", "from pydantic import BaseModel"),
    "onnx": ("lib/learning/planted_onnx.py", "def late() -> None:\n    import onnxruntime"),
    "pynetdicom": ("lib/dicom/planted_pynetdicom.py", "from pynetdicom import AE"),
    "ray": ("lib/synthesis/planted_ray.py", "import ray"),
}


def lint(root: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the repository's configuration on the source trees below a folder."""
    chosen = [part for contract in contracts for part in ("--contract", contract)]
    path = os.pathsep.join([str(root), str(root / "slicer" / "CT2PET")])
    command = [sys.executable, "-c", LINT, str(REPOSITORY / "pyproject.toml"), "--no-cache", "--no-logo", *chosen]
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "400", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the four source trees."""
    for tree in TREES.values():
        shutil.copytree(
            REPOSITORY / tree, tmp_path / tree, ignore=shutil.ignore_patterns("__pycache__", "logs", "model")
        )
    shutil.copy(REPOSITORY / "main.py", tmp_path)
    return tmp_path


def test_all_contracts_are_kept() -> None:
    done = lint(REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr


def plant_cycle(folder: Path, package: str, first: str, second: str) -> None:
    """Write a package of two modules that import each other by these two statements."""
    planted = folder / package
    planted.mkdir()
    (planted / "__init__.py").touch()
    (planted / "first.py").write_text(first)
    (planted / "second.py").write_text(second)


@pytest.mark.parametrize("name", TREES)
def test_a_cycle_in_a_source_tree_is_found_however_it_is_imported(name: str, sources: Path) -> None:
    folder = sources / TREES[name]
    plant_cycle(folder, "planted_relative", "from .second import two\n", "from . import first\n")
    plant_cycle(
        folder,
        "planted_type_checking",
        f"import typing\nif typing.TYPE_CHECKING:\n    from {name}.planted_type_checking.second import two\n",
        f"from {name}.planted_type_checking.first import one\n",
    )
    plant_cycle(
        folder,
        "planted_from_package",
        f"from {name}.planted_from_package import second\n",
        f"def late():\n    from {name}.planted_from_package import first\n",
    )
    done = lint(sources, "cycles")
    assert done.returncode == 1, done.stderr
    for package in ("planted_relative", "planted_type_checking", "planted_from_package"):
        assert f"No cycles are allowed in {name}.{package}." in done.stdout


def test_every_contract_is_broken_by_a_violation(sources: Path) -> None:
    for path, statement in VIOLATIONS.values():
        (sources / path).write_text(f"{statement}\n")
    done = lint(sources)
    assert done.returncode == 1, done.stderr
    for contract, (path, _) in VIOLATIONS.items():
        module = Path(path).stem
        assert f".{module} ->" in done.stdout, f"{contract}: {module} was not found"
    contracts = (REPOSITORY / "pyproject.toml").read_text()
    declared = {line.split('"')[1] for line in contracts.splitlines() if line.startswith('id = "')}
    assert declared == {*VIOLATIONS, "cycles"}
