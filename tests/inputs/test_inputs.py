"""Every input gives the result in the table, and docs/dicom-input.md equals the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.inputs.study import SAME, InputCase, Observation, changed_study, observe, write_study
from tests.inputs.table import ALL_CASES, DOCUMENT, document

CASES = [(topic, case) for topic, cases in ALL_CASES.items() for case in cases]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unchanged study."""
    return write_study(tmp_path_factory.mktemp("inputs") / "studies")


@pytest.fixture(scope="module")
def unchanged(study: Path) -> Observation:
    """The result of the unchanged study."""
    return observe(study)


def test_unchanged_study_is_read_without_warning(unchanged: Observation) -> None:
    assert (unchanged.outcome, unchanged.message) == ("read", "")


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[f"{topic}: {case.title}" for topic, case in CASES])
def test_input_gives_the_result_in_the_table(
    case: InputCase, study: Path, unchanged: Observation, tmp_path: Path
) -> None:
    found = observe(changed_study(study, tmp_path / "studies", case.change))
    assert (found.outcome, case.message in found.message) == (case.outcome, True), found
    if found.mean_suv is not None and found.mean_hu is not None:
        assert unchanged.mean_suv is not None and unchanged.mean_hu is not None
        assert found.mean_suv / unchanged.mean_suv == pytest.approx(case.scale, rel=SAME)
        assert found.mean_hu == pytest.approx(unchanged.mean_hu, abs=1)


def test_document_equals_the_table(study: Path, tmp_path: Path) -> None:
    written = (REPOSITORY / DOCUMENT).read_text()
    assert written == document(study, tmp_path), f"{DOCUMENT} is out of date: run scripts/input-table"
