"""Generation of docs/dicom-input.md: a table of inputs with the observed result and message of each."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.inputs.multiframe_cases import MULTI_FRAME_CASES
from tests.inputs.series_cases import SERIES_CASES
from tests.inputs.study import InputCase, changed_study, observe
from tests.inputs.suv_cases import SUV_CASES

DOCUMENT = "docs/dicom-input.md"
ALL_CASES: dict[str, tuple[InputCase, ...]] = {**SUV_CASES, **SERIES_CASES, **MULTI_FRAME_CASES}
INTRODUCTION = """# DICOM input: accepted, refused, and why

Each row changes one property of a phantom study (a CT and a PET, F-18, 88.7 kg, 481 MBq at 09:19:19, scan at 10:30) and
shows the result. `scripts/input-table` generates the table from observed results; the tests run every row and compare
the values with those of the unchanged study.

- **read**: used without a warning; SUV and HU equal those of the unchanged study.
- **read with a warning**: used; `scan`, the server and reports show the warning.
- **read in Bq/mL only**: paired and displayed, never used for training, because SUV cannot be computed reliably.
- **refused**: not used; `scan` shows the reason.
"""


def document(study: Path, work: Path) -> str:
    """Return the document; `work` is a folder for changed copies of the study."""
    parts = [INTRODUCTION]
    for topic, cases in ALL_CASES.items():
        parts.append(f"\n## {topic}\n\n| input | result | message |\n| --- | --- | --- |\n")
        for number, case in enumerate(cases):
            folder = changed_study(study, work / f"{topic} {number}", case.change)
            found = observe(folder)
            shutil.rmtree(folder)
            parts.append(f"| {case.title} | {found.outcome} | {_cell(found.message)} |\n")
    return "".join(parts)


def _cell(message: str) -> str:
    return message.replace("|", "\\|").replace("\n", " ")
