"""Every input of the table does what the table says, and docs/dicom-input.md is that table."""

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
    """What becomes of the unchanged study."""
    return observe(study)


def test_the_unchanged_study_is_read_without_a_warning(unchanged: Observation) -> None:
    assert (unchanged.outcome, unchanged.message) == ("read", "")


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[f"{topic}: {case.what}" for topic, case in CASES])
def test_the_input_is_treated_as_the_table_says(
    case: InputCase, study: Path, unchanged: Observation, tmp_path: Path
) -> None:
    found = observe(changed_study(study, tmp_path / "studies", case.change))
    assert (found.outcome, case.words in found.message) == (case.outcome, True), found
    if found.mean_suv is not None and found.mean_hu is not None:
        assert unchanged.mean_suv is not None and unchanged.mean_hu is not None
        assert found.mean_suv / unchanged.mean_suv == pytest.approx(case.scale, rel=SAME)
        assert found.mean_hu == pytest.approx(unchanged.mean_hu, abs=1)


def test_the_document_is_the_table(study: Path, tmp_path: Path) -> None:
    written = (REPOSITORY / DOCUMENT).read_text()
    assert written == document(study, tmp_path), f"{DOCUMENT} is not what is observed: run scripts/input-table"
