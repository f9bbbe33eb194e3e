"""The table of inputs as a document: what each is, what becomes of it, and what is said, as observed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.inputs.multiframe_cases import MULTI_FRAME_CASES
from tests.inputs.series_cases import SERIES_CASES
from tests.inputs.study import InputCase, changed_study, observe
from tests.inputs.suv_cases import SUV_CASES

DOCUMENT = "docs/dicom-input.md"
ALL_CASES: dict[str, tuple[InputCase, ...]] = {**SUV_CASES, **SERIES_CASES, **MULTI_FRAME_CASES}
INTRODUCTION = """# What is read, what is refused, and why

Each row changes one thing in a phantom study (a CT and a PET, F-18, 88.7 kg, 481 MBq at 09:19:19, scan at 10:30) and
shows what becomes of it. The table is written by `scripts/input-table` from what was observed; the tests run every row,
and compare the numbers with those of the unchanged study.

- **read**: used without a warning; SUV and HU are those of the unchanged study.
- **read with a warning**: used; the warning is shown by `scan`, by the server and in reports.
- **read in Bq/mL only**: paired and shown, never trained on: no SUV is made by a guess.
- **refused**: not used; the reason is shown by `scan`.
"""


def document(study: Path, work: Path) -> str:
    """Return the document; changed copies of the study are made in `work`."""
    parts = [INTRODUCTION]
    for topic, cases in ALL_CASES.items():
        parts.append(f"\n## {topic}\n\n| input | what becomes of it | what is said |\n| --- | --- | --- |\n")
        for number, case in enumerate(cases):
            folder = changed_study(study, work / f"{topic} {number}", case.change)
            found = observe(folder)
            shutil.rmtree(folder)
            parts.append(f"| {case.what} | {found.outcome} | {_cell(found.message)} |\n")
    return "".join(parts)


def _cell(message: str) -> str:
    return message.replace("|", "\\|").replace("\n", " ")
