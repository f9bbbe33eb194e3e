"""The side of the split of each patient, for good: one line a patient in a file that people read and may edit.

The hash of `split.py` decides once, when a patient's first pair is seen. From then on the file decides, whatever the
recipe's shares, salt or offset say later: else a patient whom yesterday's model was trained on could validate today's
(MONAI Label's issue 1752). A split by slice has no sides of patients, and no use for the file.

The file is CSV, as spreadsheets write it. Each change makes a whole new file and puts it in the old one's place, under
a lock that ends with its process. A file that cannot be parsed is never replaced: that would move patients.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lib.errors import OutputError, SplitFileError
from lib.files import atomic_file, flush_to_disk
from lib.pairing.split import SPLIT_SIDES, Side, Split
from lib.types import SeriesPair

LOCK_TIMEOUT_S = 30.0  # other processes write for milliseconds
NEEDED = ("patient_id", "side")  # of the columns; the others are for the reader, and may be left out
TRAINED_ON = "a published model was trained on this patient"
PLAIN_TEXT = re.compile(r"[A-Za-z]\w*_\w*")  # what no spreadsheet takes for a number, a date or a formula
FORMULA = frozenset("=+-@\t\r")  # a cell that begins so may be executed
BOM = "\ufeff"  # by which a spreadsheet knows UTF-8


@dataclass(frozen=True)
class Assignment:
    """One line of the file.

    Attributes:
        assigned_utc: When, ISO 8601.
        ct_series_instance_uid, pet_series_instance_uid: Of the pair by which the patient was first seen.
        decided_by: The shares, offset and salt of the hash, or why it was not used.
    """

    patient_id: str
    side: Side
    assigned_utc: str = ""
    ct_series_instance_uid: str = ""
    pet_series_instance_uid: str = ""
    decided_by: str = ""


COLUMNS = tuple(field.name for field in fields(Assignment))
Assignments = Mapping[str, Assignment]  # by PatientID, in the order of the file


def read_split_file(path: Path) -> Assignments:
    """Return the assignments by patient; none where there is no file yet.

    Raises:
        SplitFileError: It cannot be read or understood; the message names the line.
    """
    try:
        text = path.read_bytes().decode("utf-8").removeprefix(BOM)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SplitFileError(f"{path}: cannot be read ({error}); {_way_out(path)}") from error
    header = text.partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in header else ",", strict=True)
    try:
        return _assignments(path, lines)
    except csv.Error as error:
        raise SplitFileError(f"{path}, line {lines.line_num}: {error}; {_way_out(path)}") from error


def assign_new(
    path: Path, pairs: Iterable[SeriesPair], split: Split, *, was_trained_on: Callable[[str], bool] = lambda _: False
) -> Assignments:
    """Give the patients of pairs who have no side yet one, for good, and return all assignments.

    Args:
        path: The file, made where it is missing.
        pairs: Any; a patient's first in this order is named in the file.
        split: Whose hash decides; one by slice assigns nobody.
        was_trained_on: Whether a published model has seen a patient, who then stays on the training side.

    Raises:
        SplitFileError: The file cannot be understood; nobody is assigned, nothing is written.
        OutputError: It cannot be written; the one before stays.
    """
    first = {pair.ct.patient_id: pair for pair in reversed(list(pairs))}
    known = read_split_file(path)
    if split.unit != "patient" or set(first) <= set(known):
        return known
    with _locked(path):
        known = read_split_file(path)  # another process may have been faster
        new = [_assign(pair, split, was_trained_on) for patient, pair in sorted(first.items()) if patient not in known]
        together = {**known, **{assignment.patient_id: assignment for assignment in new}}
        if new:
            _write(path, together.values())
    return together


def _assign(pair: SeriesPair, split: Split, was_trained_on: Callable[[str], bool]) -> Assignment:
    patient = pair.ct.patient_id
    trained_on = was_trained_on(patient)
    return Assignment(
        patient_id=patient,
        side=Side.TRAIN if trained_on else split.side_of_patient(patient),
        assigned_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        ct_series_instance_uid=pair.ct.uid,
        pet_series_instance_uid=pair.pet.uid,
        decided_by=TRAINED_ON if trained_on else describe_split(split),
    )


def describe_split(split: Split) -> str:
    """Return what decides about a patient whom the file does not name yet."""
    return f"hash: validation {split.validation:g} test {split.test:g} offset {split.offset:g} salt {split.salt}"


def _assignments(path: Path, lines: Iterator[list[str]]) -> Assignments:
    columns = next(lines, [])
    strange = [name for name in columns if name not in COLUMNS]
    if strange or not set(NEEDED) <= set(columns) or len(set(columns)) < len(columns):
        raise SplitFileError(
            f"{path}, line 1: columns {', '.join(columns) or 'none'}; expected {', '.join(COLUMNS)}, each once, of "
            f"which {' and '.join(NEEDED)} are needed; {_way_out(path)}"
        )
    found: dict[str, Assignment] = {}
    for number, line in enumerate(lines, start=2):
        if not any(line):
            continue
        if len(line) != len(columns):
            raise SplitFileError(
                f"{path}, line {number}: {len(line)} values, expected {len(columns)}; {_way_out(path)}"
            )
        assignment = _assignment(f"{path}, line {number}", dict(zip(columns, line, strict=True)), path)
        if assignment.patient_id in found:
            raise SplitFileError(
                f"{path}, line {number}: patient {assignment.patient_id} a second time; keep one line a patient"
            )
        found[assignment.patient_id] = assignment
    return found


def _assignment(where: str, values: dict[str, str], path: Path) -> Assignment:
    side = values.pop("side").strip()
    if side not in SPLIT_SIDES:
        raise SplitFileError(f"{where}: side {side[:40]!r}, expected {', '.join(SPLIT_SIDES)}; {_way_out(path)}")
    if not values["patient_id"]:
        raise SplitFileError(f"{where}: no patient_id (an empty PatientID is written as '); {_way_out(path)}")
    patient = values.pop("patient_id").removeprefix("'")
    return Assignment(patient_id=patient, side=Side(side), **values)


def _way_out(path: Path) -> str:
    return f"put it right by hand, or bring back a copy: {path.name} says who may never validate, and is not made anew"


def _write(path: Path, assignments: Collection[Assignment]) -> None:
    text = io.StringIO(newline="")
    text.write(BOM)
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in assignments:
        # a spreadsheet would turn 0012 into 12 and MAR-1 into a date, and execute what begins with =
        quoted = "" if PLAIN_TEXT.fullmatch(one.patient_id) else "'"
        others = (str(getattr(one, name)) for name in COLUMNS[1:])
        writer.writerow((quoted + one.patient_id, *(f"'{word}" if word[:1] in FORMULA else word for word in others)))
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(text.getvalue().encode("utf-8"))
            flush_to_disk(temporary)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); the one before stays, free space") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes, which the system releases when its process ends."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        held = FileLock(lock, timeout=LOCK_TIMEOUT_S).acquire()
    except Timeout as error:
        raise OutputError(f"{lock}: another process has held the lock for {LOCK_TIMEOUT_S:.0f} s; try again") from error
    except OSError as error:
        raise OutputError(f"{lock}: cannot be written or locked ({error}); choose another models folder") from error
    with held:
        yield
