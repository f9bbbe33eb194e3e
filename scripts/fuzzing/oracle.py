"""Read a subject or mutant with the readers of ct2pet, and judge whether the result is acceptable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.dicom.instance_header import InstanceHeader
from lib.dicom.read.volume import read_activity, read_ct, read_pet
from lib.dicom.remote.json_header import header_from_json
from lib.dicom.scan.scan import scan_folder
from lib.dicom.scan.series import ScannedSeries, judge_series
from lib.dicom.write.plan import SourceModel, plan_series
from lib.errors import CT2PETError
from lib.imaging.volume import Unit, Volume
from lib.types import Series
from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.subjects import Subject

# Outcomes: refused with a reason; same result; different result with a warning; different result that no unchanged data
# contradict; different result without a warning although unchanged data contradict it
REFUSED, EQUAL, WARNED, FREE, SILENT = "refused", "equal", "warned", "unopposed", "silent"
MODEL = SourceModel(model="none", checksum="0" * 64, version="0")
SAME_POSITION_MM = 0.7  # slices nearer than this are one slice
FACTS = ("weight_kg", "dose_bq", "half_life_s", "units", "suv_type", "decay_correction")


@dataclass(frozen=True, eq=False)
class Reading:
    """The result of reading.

    Attributes:
        volume: Volume in HU or SUVbw; None if it was refused.
        messages: All warnings and reasons for refusal, of all series and files.
        facts: Values from headers without pixels (DICOM JSON).
        planned: First file of the synthetic PET of a CT; None if it was refused.
    """

    volume: Volume | None
    messages: frozenset[str]
    facts: str = ""
    planned: bytes | None = None


def read(subject: Subject, folder: Path) -> Reading:
    """Read a folder with the readers of ct2pet.

    Raises:
        Exception: Any error that is not a `CT2PETError` is a finding.
    """
    if subject.form == "volume":
        return _read_volume_file(next(folder.iterdir()))
    if subject.form == "json":
        return _read_json(folder, subject.modality)
    report = scan_folder(folder)
    messages = {skipped.reason for skipped in report.skipped} | _messages(report.series)
    usable = report.usable(subject.modality)
    if not usable:
        return Reading(None, frozenset(messages))
    largest = max(usable, key=lambda found: len(found.series.files))
    readers = (read_ct,) if subject.modality == "CT" else (read_activity, read_pet)
    volume: Volume | None = None
    for reader in readers:
        volume = _read_or_reason(reader, largest.series, messages)
    planned = _plan(largest.series, messages) if subject.modality == "CT" and volume is not None else None
    return Reading(volume, frozenset(messages), planned=planned)


def _messages(series: tuple[ScannedSeries, ...]) -> set[str]:
    messages = {warning for found in series for warning in found.warnings}
    messages |= {found.reason for found in series if found.reason}
    return messages | {found.suv for found in series if found.suv}


def _read_or_reason(reader: Callable[[Series], Volume], series: Series, messages: set[str]) -> Volume | None:
    try:
        return reader(series)
    except CT2PETError as error:
        messages.add(str(error))
        return None


def _plan(series: Series, messages: set[str]) -> bytes | None:
    try:
        planned = plan_series(series, MODEL)
        slab = planned.geometry.slab(slice(0, 1))
        pet = Volume(np.ones(slab.shape, np.float32), slab, Unit.SUV_BW)
        return next(planned.fill(pet).files())[1]
    except CT2PETError as error:
        messages.add(str(error))
        return None


def _read_volume_file(path: Path) -> Reading:
    from lib.dicom.scan.open_ct import open_ct

    try:
        return Reading(open_ct(path), frozenset())
    except CT2PETError as error:
        return Reading(None, frozenset({str(error)}))


def _read_json(folder: Path, modality: str) -> Reading:
    headers, messages = [], set()
    for path in sorted(folder.iterdir()):
        try:
            headers.append(header_from_json(json.loads(path.read_text()), str(path)))
        except CT2PETError as error:
            messages.add(str(error))
    groups: dict[str, list[InstanceHeader]] = {}
    for header in headers:
        groups.setdefault(header.shared.series_instance_uid, []).append(header)
    series = tuple(judge_series(group) for group in groups.values())
    messages |= _messages(series)
    usable = [found for found in series if found.is_usable and found.series.modality == modality]
    if not usable:
        return Reading(None, frozenset(messages))
    largest = max(usable, key=lambda found: len(found.series.files))
    geometry = largest.geometry
    assert geometry is not None
    pets = {
        h.shared.pet for h in headers if h.shared.pet is not None and h.shared.series_instance_uid == largest.series.uid
    }
    facts = sorted(str([getattr(pet, name, None) for name in FACTS]) for pet in pets)
    volume = Volume(np.broadcast_to(np.float32(0), geometry.shape), geometry, Unit.HU)  # broadcast: uses no memory
    return Reading(volume, frozenset(messages), facts=f"{facts} {largest.has_suv}")


def verdict(mutant: Mutant, found: Reading, untouched: Reading) -> tuple[str, str]:
    """Return the outcome of a mutant and a detail: a message, or the difference from the original."""
    if found.volume is None:
        return REFUSED, next(iter(found.messages - untouched.messages), "")[:160]
    if untouched.volume is None:
        return FREE, "the original is refused"
    news = found.messages - untouched.messages
    difference, is_complete = _difference(found.volume, untouched.volume, mutant.place_mm)
    if difference <= 1e-4 and is_complete and found.facts == untouched.facts:
        return EQUAL, ""
    detail = f"differs by {difference:.3g}{'' if is_complete else ', not all slices'}"
    if found.facts != untouched.facts:
        detail += f", {found.facts} for {untouched.facts}"
    if news:
        return WARNED, f"{detail}: {next(iter(sorted(news)))[:160]}"
    if mutant.contradiction and (difference > mutant.tolerance or not is_complete):
        return SILENT, f"{detail}; contradicted by {mutant.contradiction}"
    return FREE, detail


def _difference(a: Volume, b: Volume, place_mm: float) -> tuple[float, bool]:
    """Return the maximum relative difference of common slices, and whether both volumes have the same slices."""
    if a.geometry.shape[1:] != b.geometry.shape[1:]:
        return float("inf"), False
    places_a, places_b = (_corners(volume) for volume in (a, b))
    apart = np.linalg.norm(places_a[:, None, 0] - places_b[None, :, 0], axis=2)
    nearest = apart.argmin(axis=1)
    if apart.min(axis=1).max() > SAME_POSITION_MM or len(set(nearest.tolist())) != len(nearest):
        return float("inf"), False
    moved = float(np.linalg.norm(places_a - places_b[nearest], axis=2).max())
    if moved > place_mm:
        return float("inf"), False
    reference = b.array[nearest]
    scale = float(np.abs(reference).max()) or 1.0
    with np.errstate(all="ignore"):
        difference = float(np.abs(a.array.astype(np.float64) - reference).max()) / scale
    return (difference if np.isfinite(difference) else float("inf")), len(nearest) == len(places_b)


def _corners(volume: Volume) -> NDArray[np.float64]:
    """Return the positions of the first and last pixel of each slice, shape (K, 2, 3), mm."""
    count, rows, columns = volume.geometry.shape
    corners = [[(k, 0, 0, 1), (k, rows - 1, columns - 1, 1)] for k in range(count)]
    return np.asarray((np.array(corners, np.float64) @ volume.geometry.affine.T)[..., :3])
