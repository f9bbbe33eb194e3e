"""Requirements of Slicer and its Extensions Index on the extension's files, checked without Slicer."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, missing

EXTENSION = REPOSITORY / "slicer"
MODULE = EXTENSION / "CT2PET"
STAND_IN = Path(__file__).parent / "stand_in"
# Packages that Slicer ships in addition to the standard library
SHIPPED = {"numpy", "vtk", "requests", "slicer", "qt", "ctk", "SampleData", "CT2PETLib"}


def sources() -> list[Path]:
    return sorted(EXTENSION.rglob("*.py"))


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the settings that CMake passes to Slicer, as written by the stub of its configuration."""
    cmake = shutil.which("cmake")
    if cmake is None:
        missing("cmake", "the program cmake is not installed (Debian: cmake; PyPI: cmake)")
    build = tmp_path_factory.mktemp("build")
    command = [str(cmake), "-S", str(EXTENSION), "-B", str(build), f"-DSlicer_DIR={STAND_IN}", "-DBUILD_TESTING=ON"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in (build / "configuration.txt").read_text().splitlines())


def test_cmake_settings_of_the_index(configured: dict[str, str]) -> None:
    assert configured["project"] == "CT2PET"
    assert configured["EXTENSION_CATEGORY"] == "Image Synthesis"
    assert configured["EXTENSION_CONTRIBUTORS"] == "ct2pet contributors"
    assert configured["EXTENSION_DEPENDS"] == "NA"
    assert "never use a synthetic PET for diagnosis" in configured["EXTENSION_DESCRIPTION"]


@pytest.mark.parametrize("key", ["EXTENSION_HOMEPAGE", "EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_urls_are_https_and_of_one_repository(configured: dict[str, str], key: str) -> None:
    catalog = json.loads((EXTENSION / "CT2PET.json").read_text())
    assert all(address.startswith(catalog["scm_url"]) for address in configured[key].split())
    assert catalog["scm_url"].startswith("https://")


def test_images_of_the_metadata_exist(configured: dict[str, str]) -> None:
    base = f"{configured['EXTENSION_HOMEPAGE']}/raw/main/"
    for address in [configured["EXTENSION_ICONURL"], *configured["EXTENSION_SCREENSHOTURLS"].split()]:
        assert (REPOSITORY / address.removeprefix(base)).is_file(), address


def test_sources_and_resources_are_installed(configured: dict[str, str]) -> None:
    listed = set(configured["SCRIPTS"].split(";")) | set(configured["RESOURCES"].split(";"))
    present = {path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*") if path.is_file()}
    present = {name for name in present if "__pycache__" not in name and name != "CMakeLists.txt"}
    assert listed == present


def test_catalog_entry_matches_its_schema() -> None:
    catalog = json.loads((EXTENSION / "CT2PET.json").read_text())
    # required by slicer-extension-catalog-entry-schema-v1.0.1
    assert {"$schema", "category", "scm_url"} <= set(catalog)
    assert set(catalog) <= {
        "$schema",
        "build_dependencies",
        "build_subdirectory",
        "category",
        "scm_revision",
        "scm_url",
        "tier",
        "enabled",
    }
    assert (REPOSITORY / catalog["build_subdirectory"] / "CMakeLists.txt").is_file()


def test_the_icon_is_128_pixels_square() -> None:
    head = (EXTENSION / "CT2PET.png").read_bytes()[:24]
    assert head[1:4] == b"PNG"
    assert (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) == (128, 128)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_source_is_parsed_by_python_3_9(path: Path) -> None:
    assert isinstance(ast.parse(path.read_text(), feature_version=(3, 9)), ast.Module)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_union_types_are_in_annotations_only(path: Path) -> None:
    """`int | None` outside an annotation, or without the future import, fails at import in Python 3.9."""
    tree = ast.parse(path.read_text())
    unions = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)]
    if not any(_is_type(node.left) or _is_type(node.right) for node in unions):
        return
    assert "from __future__ import annotations" in path.read_text()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            bad = [
                n
                for n in ast.walk(node.value)
                if isinstance(n, ast.BinOp) and isinstance(n.op, ast.BitOr) and _is_type(n.right)
            ]
            assert not bad, f"{path.name}:{node.lineno}"


def _is_type(node: ast.AST) -> bool:
    return (isinstance(node, ast.Constant) and node.value is None) or (
        isinstance(node, ast.Name) and node.id in ("int", "str", "float", "bytes")
    )


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_imports_are_shipped_with_slicer(path: Path) -> None:
    import sys

    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names.append(str(node.module))
        for name in names:
            first = name.split(".")[0]
            assert first in SHIPPED or first in sys.stdlib_module_names, f"{path.name}: {name}"
            assert first not in ("cgi", "imp", "distutils"), f"{path.name}: {first} is gone in Python 3.12"


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_the_module_file_is_thin() -> None:
    assert len((MODULE / "CT2PET.py").read_text().splitlines()) < 50


def test_worker_code_imports_neither_mrml_nor_qt() -> None:
    """Code of worker threads must not access the scene."""
    library = MODULE / "CT2PETLib"
    for name in (
        "client/client",
        "jobs/jobs",
        "jobs/job",
        "client/http/transport",
        "jobs/slab_order",
        "client/nrrd",
        "scene/resampling",
        "scene/metrics",
    ):
        modules = set(re.findall(r"^(?:import|from) (\S+)", (library / f"{name}.py").read_text(), re.MULTILINE))
        assert not modules & {"slicer", "qt", "ctk"}, name
