"""The wheel: one package in site-packages, whose command and app run without the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lib.phantom.dicom import write_study
from lib.phantom.generate import phantom_patient
from tests.cli.runner import COARSE
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import running_server

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("lib", "ct2pet_app", "scripts/wheel")
PATIENTS_DATA = ("model/cascade3/label.nrrd", "logs/app.log", "lib/made_by_monai_label.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of this repository in which a server has run."""
    root, out = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("dist")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "model", "logs"))
    for file in (
        "main.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        *(path.name for path in ROOT.glob("requirements*")),
    ):
        shutil.copy(ROOT / file, root)
    for file in PATIENTS_DATA:
        (root / "ct2pet_app" / file).parent.mkdir(parents=True, exist_ok=True)
        (root / "ct2pet_app" / file).write_text("of a patient")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=root, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (path,) = out.glob("ct2pet-*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel installs into site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(site: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m ct2pet`, which is what the installed command `ct2pet` calls."""
    return subprocess.run(
        [sys.executable, "-m", "ct2pet", *map(str, arguments)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_wheel_has_one_package_and_no_files_of_a_server(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"ct2pet"}
    assert "ct2pet/LICENSE" in names  # which exported bundles contain
    for folder, target in zip(FOLDERS, ("ct2pet/lib", "ct2pet/ct2pet_app", "ct2pet"), strict=True):
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html", ".toml")]
        made = {"lib", "model", "logs", "bin"}  # by MONAI Label, in the app
        wanted = {
            f"{target}/{path.relative_to(ROOT / folder).as_posix()}" for path in files
            if folder != "ct2pet_app" or path.relative_to(ROOT / folder).parts[0] not in made
        }  # fmt: skip
        assert wanted <= set(names)
    assert not [name for name in names if any(name.endswith(file) for file in PATIENTS_DATA)]


def test_the_wheel_requires_what_requirements_txt_pins(site: Path) -> None:
    (metadata,) = site.glob("*.dist-info/METADATA")
    required = HeaderParser().parsestr(metadata.read_text(encoding="utf-8")).get_all("Requires-Dist", [])
    needed = {str(Requirement(text)).lower() for text in required if "extra ==" not in text}
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    assert needed == {str(Requirement(line)).lower() for line in lines if line}
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert "ct2pet = ct2pet.__main__:main" in entry_points.read_text()


def test_a_ct_is_synthesized_without_the_repository(site: Path, tmp_path: Path) -> None:
    patient = phantom_patient(2, 0, COARSE)
    write_study(patient, tmp_path / patient.patient_id)
    model = save_constant_model(tmp_path / "model.safetensors", 2.0)
    result = run(
        site, "synthesize", tmp_path / patient.patient_id / "CT", "--model", model, "--out", tmp_path / "pet.nrrd",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["shape"] == [10, 64, 64] and (tmp_path / "pet.nrrd").exists()


@pytest.mark.server
def test_monai_label_starts_its_app(site: Path, tmp_path: Path) -> None:
    found = run(site, "app-folder", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    app = Path(found.stdout.strip())
    assert app == site / "ct2pet" / "ct2pet_app"
    (tmp_path / "studies").mkdir()
    with running_server(app, tmp_path / "studies", tmp_path, cwd=tmp_path, is_forked=False) as server:
        assert "cascade3" in server.json("/info/")["models"]
