"""`cohort status` and `cohort report`."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.cli.runner import run, run_json
from tests.cohort.conftest import STUDIES

Capture = pytest.CaptureFixture[str]


class Links(HTMLParser):
    """The links, ids and sources of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.ids.add(value or "")
            elif name == "src":
                self.sources.append(value or "")


def test_the_report_is_one_page_that_links_every_case(
    capsys: Capture, studies: Path, other_model: Path, tmp_path: Path
) -> None:
    run_json(capsys, "cohort", "run", studies, "--model", other_model, "--out", tmp_path)
    report = run_json(capsys, "cohort", "report", tmp_path)
    page = Path(report["report"]).read_text()
    links = Links(page)
    assert "NOT FOR DIAGNOSIS" in page and len(links.ids) == STUDIES
    assert all(source.startswith("data:image/png;base64,") for source in links.sources) and links.sources
    folders = {link for link in links.links if not link.startswith("#")}
    assert len(folders) == STUDIES and all((tmp_path / link).is_dir() for link in folders)
    assert {link[1:] for link in links.links if link.startswith("#")} <= links.ids
    assert not re.search(r"PHANTOM_\d|Phantom\^", page)  # neither patient IDs nor names
    (scanner,) = report["by_scanner"]
    assert (scanner["scanner"], scanner["studies"]) == ("ct2pet computed chest phantom", STUDIES)
    assert scanner["mean"]["mae_suv_body"] > 0
    # the model predicts 1.5 SUV everywhere, in bfloat16 a little less or more
    filled = [edge for edge, voxels in zip(report["suv"]["edges"], report["suv"]["voxels"], strict=True) if voxels]
    assert filled in ([1.25], [1.5]) and report["suv"]["mean"] == pytest.approx([1.5] * STUDIES, abs=0.02)


def test_status_counts_states_and_slices(capsys: Capture, local_cohort: Path) -> None:
    status = run_json(capsys, "cohort", "status", local_cohort)
    assert status["counts"] == {"pending": 0, "running": 0, "done": STUDIES, "failed": 0, "unusable": 0}
    assert (status["slices"], status["attempts"], status["retried"], status["lost"]) == (6 * STUDIES, STUDIES, 0, 0)
    code, out, _ = run(capsys, "cohort", "status", local_cohort)
    assert code == 0 and "studies per hour" in out


def test_the_histogram_counts_the_voxels_of_the_files(capsys: Capture, local_cohort: Path) -> None:
    suv = run_json(capsys, "cohort", "report", local_cohort)["suv"]
    stored = [dcmread(path) for path in (local_cohort / "series").rglob("*.dcm")]
    values = np.concatenate([one.pixel_array.ravel() * float(one.RescaleSlope) for one in stored])
    assert sum(suv["voxels"]) == values.size
    assert max(suv["max"]) == pytest.approx(values.max(), rel=1e-3)
    assert json.dumps(suv)
