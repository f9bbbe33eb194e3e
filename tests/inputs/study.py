"""A phantom study, changes to it, and the results of scan, pairing and readers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.errors import InputError
from lib.pairing.pairs import pair_series
from lib.phantom.generate import PhantomSettings, write_phantoms

SMALL = PhantomSettings(slices=10, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
SAME = 0.01  # relative: a difference of less than 1 % of SUV is not a contradiction

Outcome = Literal["read", "read with a warning", "read in Bq/mL only", "refused"]
Change = Callable[[Path], None]


@dataclass(frozen=True)
class InputCase:
    """One kind of input: a change to a valid study, its result, and a part of the message.

    Attributes:
        title: The input as named in the table.
        change: A function that changes a study in place.
        outcome: The expected result.
        message: A part of the expected warning or reason.
        scale: Ratio of the correct SUV to that of the unchanged study.
    """

    title: str
    change: Change
    outcome: Outcome
    message: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Observation:
    """The result of a study."""

    outcome: Outcome
    message: str
    mean_suv: float | None = None
    mean_hu: float | None = None


def write_study(folder: Path) -> Path:
    """Write the unchanged study and return its folder."""
    (study,) = write_phantoms(folder, patients=1, settings=SMALL)
    return study


def changed_study(study: Path, target: Path, change: Change) -> Path:
    """Return a changed copy of a study."""
    shutil.copytree(study, target)
    change(target)
    return target


def each_file(modality: str, change: Callable[[Dataset, int], None]) -> Change:
    """Return a change to every file of the study's CT or PET, in slice order."""

    def apply(study: Path) -> None:
        for number, path in enumerate(sorted((study / modality).glob("*.dcm"))):
            dataset = dcmread(path)
            change(dataset, number)
            dcmwrite(path, dataset)

    return apply


def set_attributes(dataset: Dataset, attributes: dict[str, Any]) -> None:
    """Set attributes by keyword; None removes an attribute."""
    for keyword, value in attributes.items():
        if value is None and keyword in dataset:
            del dataset[keyword]
        elif value is not None:
            setattr(dataset, keyword, value)


def observe(study: Path) -> Observation:
    """Return the result of scan, pairing and readers for a study of one CT and one PET."""
    report = scan_folder(study)
    by_modality = {modality: [s for s in report.series if s.series.modality == modality] for modality in ("CT", "PT")}
    reasons = [found.reason for found in report.series if found.reason is not None]
    unread = [skipped.reason for skipped in report.skipped]
    if not any(found.is_usable for found in by_modality["CT"]) or not any(s.is_usable for s in by_modality["PT"]):
        return Observation("refused", "; ".join(reasons or unread))
    pairing = pair_series(report)
    if not pairing.pairs:
        return Observation("refused", "; ".join(alone.reason for alone in pairing.unpaired))
    (paired, *_) = pairing.pairs
    if not paired.pet.has_suv:
        return Observation("read in Bq/mL only", paired.pet.suv or "")
    try:
        ct_hu, suv_bw = read_ct(paired.pair.ct).array, read_pet(paired.pair.pet).array
    except InputError as error:
        return Observation("refused", str(error))
    warnings = "; ".join((*paired.ct.warnings, *paired.pet.warnings, *unread))
    numbers = (float(np.nanmean(suv_bw)), float(np.mean(ct_hu)))
    return Observation("read with a warning" if warnings else "read", warnings, *numbers)
