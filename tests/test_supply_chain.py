"""What `scripts/environment` installs is what `locks/` names, byte for byte, and nothing else."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import mmap
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import SimpleITK as sitk
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydicom import dcmread

from scripts.sbom import BUNDLED, VENDORED

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
PINNED = {  # requirements files, and the locks that must hold their pins
    "requirements.txt": ("requirements.txt", "source.txt", "torch.txt"),
    "requirements-dev.txt": ("requirements.txt", "requirements-dev.txt"),
    "requirements-download.txt": ("requirements.txt", "requirements-download.txt"),
    "requirements-onnx.txt": ("requirements.txt", "requirements-onnx.txt"),
    "requirements-ray.txt": ("requirements.txt", "requirements-ray.txt"),
    "locks/tools.in": ("tools.txt",),
    "scripts/slicer/requirements.txt": ("slicer.txt",),
    "scripts/schemathesis/requirements.txt": ("schemathesis.txt",),
    "docs/site/requirements.txt": ("docs.txt",),
}
CONTRIBUTORS = (
    "requirements.txt", "requirements-download.txt", "requirements-onnx.txt", "requirements-ray.txt",
    "requirements-dev.txt", "source.txt", "torch.txt",
)  # fmt: skip
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SHA256 = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")


def requirements(path: Path) -> Iterator[Requirement]:
    """Yield the requirements of a file, without options, comments and hashes."""
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        text = line.split("#")[0].split("--hash")[0].strip()
        if text and not text.startswith("-"):
            yield Requirement(text)


def pins(*names: str, python: str = PYTHON) -> dict[str, str]:
    """Return the versions in lock files that are for a version of Python, by normalised name."""
    return {
        canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
        for name in names
        for requirement in requirements(LOCKS / name)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python})
    }


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_every_locked_package_has_one_version_and_hashes(path: Path) -> None:
    entries = re.split(r"\n(?=\S)", path.read_text(encoding="utf-8"))
    packages = [entry for entry in entries if not entry.startswith(("#", "-r "))]
    assert packages
    for entry in packages:
        assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==[^\s;*]+( ; python_[^\n]+)? \\\n", entry), entry[:100]
        assert SHA256.search(entry), entry[:100]


@pytest.mark.parametrize("source", PINNED)
def test_locks_follow_the_pins(source: str) -> None:
    locked = pins(*PINNED[source])
    for requirement in requirements(ROOT / source):
        name = canonicalize_name(requirement.name)
        assert name in locked and requirement.specifier.contains(locked[name]), (
            f"{source} says {requirement}, locks/ {locked.get(name)}; run scripts/lock"
        )


def test_the_cpu_build_of_torch_is_of_the_same_version() -> None:
    assert pins("torch-cpu.txt") == {"torch": pins("torch.txt")["torch"] + "+cpu"}


def test_locks_of_users_and_contributors_name_no_package_twice() -> None:
    names = [name for file in CONTRIBUTORS for name in pins(file)]
    assert len(names) == len(set(names))


def test_what_is_installed_is_locked() -> None:
    """Walk the dependencies of the requirements as installed here: all are in the lock, in that version."""
    locked = pins(*CONTRIBUTORS)
    files = [file for file in PINNED if "/" not in file]
    queue = [(requirement, file) for file in files for requirement in requirements(ROOT / file)]
    seen: set[tuple[str, str]] = set()
    while queue:
        requirement, parent = queue.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for seen_name, extra in seen if seen_name == name}:
            seen.add((name, extra))
            distribution = importlib.metadata.distribution(name)
            assert name in locked, f"{parent} requires {name}, which locks/ does not name; run scripts/lock"
            assert distribution.version.split("+")[0] == locked[name], f"{name}; delete .venv and start again"
            for text in distribution.requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({**default_environment(), "extra": extra}):
                    queue.append((needed, name))
    assert len(seen) > 150


# scripts/environment with packages of our own: the real script and the real pip, no index


def write_wheel(folder: Path, name: str, version: str, *, requires: str = "") -> str:
    """Write a wheel with one module; return its SHA-256."""
    info, label = f"{name}-{version}.dist-info", f"{name}-{version}"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{label}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"]))
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Checkout:
    """A repository of `scripts/environment`, requirements and locks alone, and a folder as index."""

    def __init__(self, root: Path) -> None:
        self.root, self.wheels = root, root / "wheels"
        for folder in (root / "scripts", root / "locks", self.wheels):
            folder.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "environment", root / "scripts")
        venv.create(root / ".venv", with_pip=False, symlinks=True)
        (self.site,) = (root / ".venv" / "lib").glob("python*/site-packages")
        for path in Path(sysconfig.get_path("purelib")).glob("pip*"):  # the package and its metadata
            (self.site / path.name).symlink_to(path)
        digests = {name: write_wheel(self.wheels, name, "1.0") for name in ("torch", "alpha")}
        (root / "requirements.txt").write_text("alpha==1.0\ntorch==1.0\n")
        (root / "requirements-dev.txt").write_text("-r requirements.txt\n")
        self.lock("requirements.txt", "alpha==1.0", digests["alpha"])
        self.lock("torch.txt", "torch==1.0", digests["torch"])
        self.lock("torch-cpu.txt", "torch==1.0+cpu", "1" * 64)
        for extra in ("download", "onnx", "ray", "dev"):
            (root / "locks" / f"requirements-{extra}.txt").write_text("-r requirements.txt\n")
        (root / "locks" / "source.txt").write_text("")

    def lock(self, file: str, requirement: str, digest: str) -> None:
        (self.root / "locks" / file).write_text(f"{requirement} \\\n    --hash=sha256:{digest}\n")

    def install(self, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(self.wheels),
            **variables,
        }
        command = ["bash", "-c", f". {self.root}/scripts/environment requirements.txt"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    @property
    def installed(self) -> set[str]:
        names = {path.name.removesuffix(".dist-info") for path in self.site.glob("*.dist-info")}
        return {name for name in names if not name.startswith("pip-")}

    @property
    def is_done(self) -> bool:
        return (self.root / ".venv" / "installed-requirements.txt").exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_the_locked_version_is_installed_and_not_requested_again(checkout: Checkout) -> None:
    write_wheel(checkout.wheels, "alpha", "2.0")
    first = checkout.install()
    assert first.returncode == 0, first.stderr
    assert checkout.installed == {"alpha-1.0", "torch-1.0"}
    shutil.rmtree(checkout.wheels)
    assert checkout.install().returncode == 0


def test_a_file_with_another_hash_is_refused(checkout: Checkout) -> None:
    with zipfile.ZipFile(checkout.wheels / "alpha-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("sitecustomize.py", "print('ran')\n")
    result = checkout.install()
    assert result.returncode != 0 and "DO NOT MATCH THE HASHES" in result.stderr
    assert "alpha-1.0" not in checkout.installed and not checkout.is_done


def test_a_dependency_outside_the_lock_is_not_installed(checkout: Checkout) -> None:
    write_wheel(checkout.wheels, "stranger", "1.0")
    checkout.lock("requirements.txt", "alpha==1.0", write_wheel(checkout.wheels, "alpha", "1.0", requires="stranger"))
    result = checkout.install()
    assert "stranger-1.0" not in checkout.installed
    assert result.returncode != 0 and "are incompatible" in result.stderr and not checkout.is_done


def test_the_cpu_build_is_used_if_available(checkout: Checkout) -> None:
    checkout.lock("torch-cpu.txt", "torch==1.0+cpu", write_wheel(checkout.wheels, "torch", "1.0+cpu"))
    assert checkout.install().returncode == 0
    assert checkout.installed == {"alpha-1.0", "torch-1.0+cpu"}


def test_a_constraint_of_pip_on_torch_does_not_hinder_the_other_build(checkout: Checkout) -> None:
    """pip then reports a conflict with the missing build for CPU, not that it is missing."""
    constraints = checkout.root / "constraints.txt"
    constraints.write_text("torch<=2\n")
    assert checkout.install(PIP_CONSTRAINT=str(constraints)).returncode == 0
    assert checkout.installed == {"alpha-1.0", "torch-1.0"}


def test_a_cpu_build_with_another_hash_is_not_replaced_by_the_other_build(checkout: Checkout) -> None:
    write_wheel(checkout.wheels, "torch", "1.0+cpu")
    result = checkout.install()
    assert result.returncode != 0 and "DO NOT MATCH THE HASHES" in result.stderr
    assert not any(name.startswith("torch") for name in checkout.installed)


@pytest.mark.parametrize(("version", "is_accepted"), [("3.10", False), ("3.11", True), ("3.12", True), ("3.13", False)])
def test_a_new_environment_is_of_a_supported_python(checkout: Checkout, version: str, is_accepted: bool) -> None:
    shutil.rmtree(checkout.root / ".venv")
    python = checkout.root / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo {version}\n')  # creates no environment
    python.chmod(0o755)
    result = checkout.install(CT2PET_PYTHON=str(python))
    assert (f"Creating {checkout.root}/.venv with {python}" in result.stderr) == is_accepted
    assert (f"ct2pet needs Python 3.11 or 3.12 (found: {python})" in result.stderr) == (not is_accepted)
    assert result.returncode != 0 and not checkout.is_done


# Bill of materials and bundled libraries


def test_the_bill_of_materials_lists_what_users_install() -> None:
    bill = json.loads((ROOT / "docs" / "sbom.cdx.json").read_text(encoding="utf-8"))
    packages = [component for component in bill["components"] if component not in VENDORED]
    listed = {canonicalize_name(component["name"]): component["version"] for component in packages}
    assert len(packages) == len(bill["components"]) - len(VENDORED), "run scripts/sbom"
    assert listed == pins("requirements.txt", "source.txt", "torch.txt", python="3.11"), "run scripts/sbom"
    assert not {"serialNumber", "timestamp"} & (bill.keys() | bill["metadata"].keys())
    bundled = {
        component["name"]: {library["name"]: library["version"] for library in component["components"]}
        for component in bill["components"]
        if "components" in component
    }
    assert bundled == BUNDLED, "run scripts/sbom"


def test_bundled_libraries_have_the_versions_that_the_documents_state(tmp_path: Path) -> None:
    """GDCM and ITK write their versions into a DICOM file; the others have theirs in the library's bytes."""
    versions = BUNDLED["simpleitk"]
    path = tmp_path / "written.dcm"
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(path))
    meta = dcmread(path).file_meta
    assert meta.ImplementationVersionName == f"GDCM {versions['GDCM']}"
    assert meta.SourceApplicationEntityTitle == f"GDCM/ITK {versions['ITK']}"
    (library,) = Path(sitk.__file__).parent.glob("_SimpleITK*.so")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for message in (
            f"zlib-ng {versions['zlib-ng']}",
            f"libpng version {versions['libpng']}",
            f"HDF5 library version: {versions['HDF5']}",
            f"expat_{versions['expat']}",
            f"\0{versions['OpenJPEG']}\0",
        ):
            assert content.find(message.encode()) >= 0, message
    known = (ROOT / "docs" / "known-vulnerabilities.md").read_text(encoding="utf-8")
    for message in (
        f"SimpleITK {importlib.metadata.version('simpleitk')}",
        f"GDCM {versions['GDCM']} in ITK",
        f"OpenJPEG {versions['OpenJPEG']}",
    ):
        assert message in " ".join(known.replace("**", "").split()), message
    locked = pins("requirements.txt", "torch.txt")
    for name, version in re.findall(r"^\| ([a-z]+) (\d[\d.]+) ", known, re.MULTILINE):
        assert locked[name] == version, f"docs/known-vulnerabilities.md speaks of {name} {version}"
