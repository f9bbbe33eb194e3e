"""What every test may ask for: the real studies, and tools that must not be missing where they are required."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# hypothesis fails an example that takes over 200 ms: no test of ours depends on the clock
settings.register_profile("ct2pet", deadline=None)
settings.load_profile("ct2pet")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
# CT2PET_REQUIRE=realdata,dciodvfy turns "this machine lacks it: skipped" into a failure.
REQUIRED = frozenset(filter(None, os.environ.get("CT2PET_REQUIRE", "").split(",")))

OBJECTS_BETWEEN_COLLECTIONS = 20_000

# The files that take longest, the longest first. The other files with slow tests follow, then the rest.
LONGEST = (
    "server/test_clinical_loop.py", "slicer/test_clinicians_path.py", "server/test_schema.py",
    "scripts/test_attack.py", "scripts/test_benchmark.py", "documents/test_tutorial.py", "cohort/test_killed.py",
    "cli/test_documented_commands.py", "pairing/quality_checks/test_plausibility.py",
    "pairing/quality_checks/test_alignment.py", "server/test_phantoms.py", "ct2pet_app/test_killed.py",
    "server/test_surface.py", "server/test_real_patients.py", "server/test_retraining.py",
    "slicer/client/test_training_curve.py", "learning/test_torchrun.py", "experiments/test_nested.py",
    "viewer/test_ct.py",
)  # fmt: skip


def missing(what: str, reason: str) -> None:
    """Skip the test because this machine lacks `what`, or fail where `what` is required."""
    if what in REQUIRED:
        pytest.fail(f"{what} is required here (CT2PET_REQUIRE) but {reason}")
    pytest.skip(f"{what}: {reason}")


def pytest_collection_finish() -> None:
    """Exclude the modules and the collected tests from garbage collection, which took a tenth of the time."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest: one that a process starts last keeps it busy while the other is idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    cost = {REPOSITORY / "tests" / name: len(LONGEST) - place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (cost.get(item.path, 0), item.path in slow), reverse=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real studies."""
    if not (SHARED_DATA / "sts").is_dir():
        missing("realdata", "../shared/data is not there")
    return SHARED_DATA


@pytest.fixture(scope="session")
def sts_folder(shared_data: Path) -> Path:
    """36 real soft-tissue sarcoma patients with CT and PET."""
    return shared_data / "sts"


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Return a function that gives a program's path, or skips (fails where CT2PET_REQUIRE names it)."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            missing(program.lower(), f"the program {program} is not installed (Debian: dicom3tools, dcmtk, orthanc)")
        return str(path)

    return find


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the commands of a test file keep their index of scanned folders to themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CT2PET_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CT2PET_DEBUG", raising=False)
        yield
