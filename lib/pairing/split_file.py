"""The split file: the permanent side of each patient, one line per patient, in a CSV file that users may edit.

The hash of `split.py` assigns a side when a patient's first pair is seen. From then on the file is authoritative, even
if the recipe's fractions, salt or offset change. Otherwise a patient that one model was trained on could validate the
next one (MONAI Label's issue 1752). A split by slice does not use the file.

The file is replaced atomically, under a lock that ends with its process. A file that cannot be parsed is never
replaced, since that would move patients to other sides.
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
NEEDED = ("patient_id", "side")  # required columns; the others are informative and optional
TRAINED_ON = "a published model was trained on this patient"
PLAIN_TEXT = re.compile(r"[A-Za-z]\w*_\w*")  # text that no spreadsheet reads as a number, a date or a formula
FORMULA = frozenset("=+-@\t\r")  # a cell that begins with one of these may be executed
BOM = "\ufeff"  # spreadsheets detect UTF-8 by it


@dataclass(frozen=True)
class Assignment:
    """One line of the file.

    Attributes:
        assigned_utc: Time of the assignment, ISO 8601.
        ct_series_instance_uid, pet_series_instance_uid: The patient's first pair.
        decided_by: Settings of the hash, or why it was not used.
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
    """Return the assignments by patient; empty if the file does not exist.

    Raises:
        SplitFileError: The file cannot be read or parsed; the message names the line.
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
    """Assign a permanent side to each new patient of some pairs, and return all assignments.

    Args:
        path: The split file, created if missing.
        pairs: Pairs; the first of each patient is recorded in the file.
        split: Split settings; a split by slice assigns no patients.
        was_trained_on: Whether a published model was trained on a patient, who is then assigned to training.

    Raises:
        SplitFileError: The file cannot be parsed; it is not changed.
        OutputError: The file cannot be written; it is not changed.
    """
    first = {pair.ct.patient_id: pair for pair in reversed(list(pairs))}
    known = read_split_file(path)
    if split.unit != "patient" or set(first) <= set(known):
        return known
    with _locked(path):
        known = read_split_file(path)  # another process may have changed it
        new = [_assign(pair, split, was_trained_on) for patient, pair in sorted(first.items()) if patient not in known]
        merged = {**known, **{assignment.patient_id: assignment for assignment in new}}
        if new:
            _write(path, merged.values())
    return merged


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
    """Return the settings of the hash as text."""
    return f"hash: validation {split.validation:g} test {split.test:g} offset {split.offset:g} salt {split.salt}"


def _assignments(path: Path, lines: Iterator[list[str]]) -> Assignments:
    columns = next(lines, [])
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or not set(NEEDED) <= set(columns) or len(set(columns)) < len(columns):
        raise SplitFileError(
            f"{path}, line 1: columns {', '.join(columns) or 'none'}; expected {', '.join(COLUMNS)}, each once; "
            f"{' and '.join(NEEDED)} are required; {_way_out(path)}"
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
                f"{path}, line {number}: patient {assignment.patient_id} is listed twice; keep one line per patient"
            )
        found[assignment.patient_id] = assignment
    return found


def _assignment(where: str, values: dict[str, str], path: Path) -> Assignment:
    side = values.pop("side").strip()
    if side not in SPLIT_SIDES:
        raise SplitFileError(f"{where}: side {side[:40]!r}, expected {', '.join(SPLIT_SIDES)}; {_way_out(path)}")
    if not values["patient_id"]:
        raise SplitFileError(f"{where}: patient_id is empty (an empty PatientID is written as '); {_way_out(path)}")
    patient = values.pop("patient_id").removeprefix("'")
    return Assignment(patient_id=patient, side=Side(side), **values)


def _way_out(path: Path) -> str:
    return (
        f"correct it or restore a backup; {path.name} is never recreated, since that would move patients to other sides"
    )


def _write(path: Path, assignments: Collection[Assignment]) -> None:
    text = io.StringIO(newline="")
    text.write(BOM)
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in assignments:
        # a spreadsheet would turn 0012 into 12 and MAR-1 into a date, and execute a cell that begins with =
        quoted = "" if PLAIN_TEXT.fullmatch(one.patient_id) else "'"
        others = (str(getattr(one, name)) for name in COLUMNS[1:])
        writer.writerow(
            (quoted + one.patient_id, *(f"'{value}" if value[:1] in FORMULA else value for value in others))
        )
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(text.getvalue().encode("utf-8"))
            flush_to_disk(temporary)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}) and is unchanged; free space") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system releases it when its process ends."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        held = FileLock(lock, timeout=LOCK_TIMEOUT_S).acquire()
    except Timeout as error:
        raise OutputError(f"{lock}: another process has held the lock for {LOCK_TIMEOUT_S:.0f} s; try again") from error
    except OSError as error:
        raise OutputError(f"{lock}: cannot be written or locked ({error}); choose another models folder") from error
    with held:
        yield
