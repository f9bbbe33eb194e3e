"""What a worker reports of one study."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lib.errors import CT2PETError, InputError, UnlikeTrainingError

Step = Literal["read", "synthesise", "write"]
STEPS: tuple[Step, ...] = ("read", "synthesise", "write")
LOST = "worker_lost"  # code of a study whose worker, node or driver was killed
UNUSABLE = "series_not_usable"


@dataclass(frozen=True)
class Failure:
    """Why a study has no result.

    Attributes:
        step: Where it failed.
        code, reason: Of the error, see `lib.errors`; the reason names UIDs and files, never a patient's name.
        is_final: Whether the same study would fail again for certain, so that it is not tried again.
        is_unusable: Whether the CT cannot be used at all (a localiser, another modality): skipped, not failed.
        is_of_machine: Whether the disk, the PACS or the program failed, and not the input.
    """

    step: Step
    code: str
    reason: str
    is_final: bool = False
    is_unusable: bool = False
    is_of_machine: bool = False

    @classmethod
    def of(cls, error: Exception, step: Step) -> Failure:
        """Return the failure of an error that a step raised."""
        if not isinstance(error, CT2PETError):
            return cls(step, CT2PETError.code, _unexpected(error))
        unusable = error.code == UNUSABLE
        return cls(
            step=step,
            code=error.code,
            reason=str(error),
            is_final=unusable or isinstance(error, UnlikeTrainingError),
            is_unusable=unusable,
            is_of_machine=not isinstance(error, InputError),
        )


def _unexpected(error: Exception) -> str:
    """Return where an error comes from, without its text, which may hold what is in a header."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} at {Path(last.filename).name}:{last.lineno}, a fault of ct2pet"


@dataclass(frozen=True)
class StudyResult:
    """The synthetic PET of a study.

    Attributes:
        series_uid: SeriesInstanceUID of the synthetic PET.
        slices: Number of its instances.
        output: Where it is: a path relative to the cohort's folder, or the address of the PACS.
        already_stored: Whether the PACS had it before, so that nothing was synthesised.
        suv: `mean` and `max` over its voxels, SUVbw.
        histogram: Number of its voxels in each bin of `lib.cohort.comparison.SUV_EDGES`.
        scanner, body_part: Of the CT's header; empty if unknown.
        familiarity: How much the CT resembles the training CTs.
        warning: About it, for readers.
        side: The patient's side of the model's split, where there is a real PET.
        metrics: By method, against the real PET; empty without one.
        why_no_metrics: Why there are none.
    """

    series_uid: str
    slices: int
    output: str
    already_stored: bool = False
    suv: Mapping[str, float] = field(default_factory=dict)
    histogram: tuple[int, ...] = ()
    scanner: str = ""
    body_part: str = ""
    familiarity: str = ""
    warning: str = ""
    side: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    why_no_metrics: str = ""


@dataclass(frozen=True)
class Outcome:
    """The end of one attempt at a study.

    Attributes:
        ct_uid: SeriesInstanceUID of the CT.
        result: The synthetic PET, or why there is none; None if the attempt was lost with its worker.
        seconds: Duration of each step that was finished.
        worker: Host and process that synthesised it.
        runtime: How the network was run.
    """

    ct_uid: str
    result: StudyResult | Failure | None
    seconds: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""
    runtime: str = ""
