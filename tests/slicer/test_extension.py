"""Requirements of Slicer and its Extensions Index on the extension's files, checked without Slicer."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, missing
from tests.slicer.environment import slicer_python

EXTENSION = REPOSITORY / "slicer"
MODULE = EXTENSION / "CT2PET"
STAND_IN = Path(__file__).parent / "stand_in"
ADDRESS = "https://github.com/clinic/ct2pet"
INTERNAL_ERRORS = {"ValueError", "ConnectionError"}  # a message for users is made of them
SHOW_A_TEXT = {"show_message", "show_error", "setText", "show_or_hide", "_start", "_done", "_label", "Check"}
# Packages that Slicer ships in addition to the standard library
SHIPPED = {"numpy", "vtk", "requests", "slicer", "qt", "ctk", "SampleData", "CT2PETLib"}


def sources() -> list[Path]:
    return sorted(EXTENSION.rglob("*.py"))


def configure(build: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """Configure a build of the extension with the stub of Slicer's configuration."""
    cmake = shutil.which("cmake")
    if cmake is None:
        missing("cmake", "the program cmake is not installed (Debian: cmake; PyPI: cmake)")
    command = [str(cmake), "-S", str(EXTENSION), "-B", str(build), f"-DSlicer_DIR={STAND_IN}", "-DBUILD_TESTING=ON"]
    return subprocess.run([*command, *settings], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a configured build."""
    build = tmp_path_factory.mktemp("build")
    done = configure(build, f"-DCT2PET_REPOSITORY={ADDRESS}.git")
    assert done.returncode == 0, done.stderr
    return build


@pytest.fixture(scope="module")
def configured(build: Path) -> dict[str, str]:
    """Return the settings that CMake passes to Slicer, as written by the stub of its configuration."""
    return dict(line.split("=", 1) for line in (build / "configuration.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def catalog(build: Path) -> dict[str, Any]:
    """Return the entry for the Extensions Index."""
    return dict(json.loads((build / "CT2PET.json").read_text()))


def test_cmake_settings_of_the_index(configured: dict[str, str]) -> None:
    assert configured["project"] == "CT2PET"
    assert configured["EXTENSION_CATEGORY"] == "Image Synthesis"
    assert configured["EXTENSION_CONTRIBUTORS"] == "ct2pet contributors"
    assert configured["EXTENSION_DEPENDS"] == "NA"
    assert "never use a synthetic PET for diagnosis" in configured["EXTENSION_DESCRIPTION"]


@pytest.mark.parametrize("key", ["EXTENSION_HOMEPAGE", "EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_urls_are_those_of_the_configured_repository(
    configured: dict[str, str], catalog: dict[str, Any], key: str
) -> None:
    assert catalog["scm_url"] == ADDRESS
    assert all(address.startswith(ADDRESS) for address in configured[key].split())


@pytest.mark.parametrize(
    "address", ["git@github.com:clinic/ct2pet.git", "https://user:secret@host/ct2pet", "../ct2pet"]
)
def test_an_address_that_others_cannot_clone_is_refused(tmp_path: Path, address: str) -> None:
    done = configure(tmp_path, f"-DCT2PET_REPOSITORY={address}")
    assert done.returncode != 0 and "-DCT2PET_REPOSITORY=https://" in done.stderr


def test_ctest_runs_the_self_test_as_slicer_does(tmp_path: Path) -> None:
    python = slicer_python()
    done = configure(tmp_path, f"-DCT2PET_REPOSITORY={ADDRESS}", f"-DSLICER_STAND_IN_PYTHON={python}")
    assert done.returncode == 0, done.stderr
    command = ["ctest", "--output-on-failure", "--verbose"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "py_CT2PET" in done.stdout and "100% tests passed" in done.stdout
    assert "Ran 3 tests" in done.stdout


def test_images_of_the_metadata_exist(configured: dict[str, str]) -> None:
    base = f"{configured['EXTENSION_HOMEPAGE']}/raw/main/"
    for address in [configured["EXTENSION_ICONURL"], *configured["EXTENSION_SCREENSHOTURLS"].split()]:
        assert (REPOSITORY / address.removeprefix(base)).is_file(), address


def test_sources_and_resources_are_installed(configured: dict[str, str]) -> None:
    listed = set(configured["SCRIPTS"].split(";")) | set(configured["RESOURCES"].split(";"))
    present = {path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*") if path.is_file()}
    present = {name for name in present if "__pycache__" not in name and name != "CMakeLists.txt"}
    assert listed == present


def test_catalog_entry_matches_its_schema(catalog: dict[str, Any]) -> None:
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
def test_texts_of_the_panel_are_marked_for_translation(path: Path) -> None:
    """A text is a literal in `_()`: Slicer's tools find nothing else, and an f-string cannot be translated."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "_":
            assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}: not a literal"
        elif name in SHOW_A_TEXT or (name.endswith("Error") and name not in INTERNAL_ERRORS):
            texts = [text for argument in node.args[:1] for text in _unmarked(argument)]
            assert not texts, f"{path.name}:{node.lineno}: {texts}"


def _unmarked(node: ast.AST) -> list[str]:
    """Return the texts with words in an expression that are not in `_()`."""
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", "")
        inner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        return [] if name == "_" else [text for child in (*inner, *node.args) for text in _unmarked(child)]
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) and re.search(r"[a-z]{2} +[a-z]", node.value) else []
    return [text for child in ast.iter_child_nodes(node) for text in _unmarked(child)]


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
