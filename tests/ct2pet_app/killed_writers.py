"""kill -9 of every writer of the server at a random line or moment, then a start: nothing torn, no orphan.

`kill_writers.py` kills. A writer runs in a child process that is forked. It dies at a random line of our code, counted
in a first, whole run of the same writer; or at a random moment, which also falls into the C of a copy or a commit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from ct2pet_app.datastore.folder import KEPT, STORED, FolderDatastore
from ct2pet_app.datastore.labels.label_store import LabelStore
from ct2pet_app.datastore.sessions import CheckedSessions
from ct2pet_app.datastore.volume_exports import VolumeExports
from ct2pet_app.server.tasks.progress import REPORT_KEY, CaseReport, report_file
from ct2pet_app.server.temp_dir import remove_leftovers
from lib.accounts import Account, PasswordHash, read_accounts, write_accounts
from lib.accounts import remove_leftovers as remove_leftovers_of_accounts
from lib.dicom.scan.header_index import HeaderIndex, IndexedFile
from lib.dicom.scan.scan import scan_folder
from lib.files import file_checksum
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.pairing.quality_checks.check_cache import CheckCache, Checked
from lib.pairing.quality_checks.plausibility import PairCheck
from lib.pairing.split import Split
from lib.pairing.split_file import assign_new, read_split_file
from lib.types import Series, SeriesPair
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.killed_processes import open_store
from tests.dicom.write.synthetic_pets import synthetic_of

OURS = tuple(str(Path(__file__).resolve().parents[2] / name) for name in ("ct2pet_app", "lib"))
BYTES = 300_000
SLICES = 4
REPORT = {REPORT_KEY: "0" * 32}


@dataclass(frozen=True)
class Place:
    """The folders of a server, and one for what is given to it."""

    root: Path

    @property
    def models(self) -> Path:
        """Where the server writes."""
        return self.root / "models"

    @property
    def studies(self) -> Path:
        """The studies folder."""
        return self.root / "studies"

    def given(self, number: int, name: str = "given.bin") -> Path:
        """Return a file of one repeated byte, which shows whether it is complete and from a single write."""
        path = self.root / "scratch" / f"{number}-{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number % 256]) * BYTES)
        return path

    def datastore(self) -> FolderDatastore:
        """Return the datastore of a server that starts now."""
        return FolderDatastore(self.studies, self.models)


# -- writers: each writes once, whatever is there -------------------------------------------------------------------


def upload(place: Place, number: int) -> None:
    """Keep an image, every other time over another."""
    LabelStore(place.models / "shelf").keep_upload(f"CT{number % 2}", place.given(number), ".nrrd", {"number": number})


def label(place: Place, number: int) -> None:
    """Keep a label over the one before."""
    LabelStore(place.models / "shelf").keep_label("CT", f"tag{number % 2}", place.given(number), ".nrrd", {})


def removal(place: Place, number: int) -> None:
    """Keep a label and remove it."""
    label_store = LabelStore(place.models / "shelf")
    label_store.keep_label("CT", "removed", place.given(number), ".nrrd", {})
    label_store.drop("CT", "removed")


def note(place: Place, number: int) -> None:
    """Add a note and a record."""
    label_store = LabelStore(place.models / "shelf")
    label_store.add_note("CT", {"first": number, "second": number})
    label_store.add_record("CT", {"scores": {"unet": number}})


def session(place: Place, number: int) -> None:
    """Make a session, and remove another."""
    sessions = CheckedSessions(str(place.models / "sessions"), 3600)
    before = [path.name for path in Path(sessions.store_path).glob("*-*")]
    sessions.add_session(str(place.given(number)), owner="una")
    if len(before) > 2:
        sessions.remove_session(before[0])


def pair(place: Place, number: int) -> None:
    """Put an uploaded pair into the studies."""
    files = [place.given(number, f"{k}.dcm") for k in range(SLICES)]
    place.datastore().keep_files({"1.2": files, "1.3": files})


def stored_series(place: Place, number: int) -> None:
    """Store a synthetic series in the studies."""
    series = synthetic_of(scan_folder(place.root / "ct").usable("CT")[0].series)
    place.datastore().store_series(series)


def version(place: Place, number: int) -> None:
    """Publish a model."""
    checkpoint = save_constant_model(place.root / "next.safetensors", 1 + number / 100, stages=1)
    open_store(place.models).publish("unet", checkpoint)


def split(place: Place, number: int) -> None:
    """Give a new patient a side of the split."""
    assign_new(place.models / "split.csv", [_pair(number)], Split())


def checks(place: Place, number: int) -> None:
    """Remember the check of a pair."""
    CheckCache(place.models / "checks.sqlite").remember(_pair(number), Checked(PairCheck(True, ()), "a:b"))


def index(place: Place, number: int) -> None:
    """Remember headers."""
    index = HeaderIndex(place.models / "index.sqlite")
    index.remember("/studies", {f"{number}": IndexedFile(1, 1, "not a DICOM file")})
    index.close()


def report(place: Place, number: int) -> None:
    """Write the report of a task."""
    case_report = CaseReport("a test", to_do=1, already=0, file=report_file(place.models, REPORT))
    with case_report.case(f"case {number}"):
        pass
    case_report.finish({"number": number})


def converted(place: Place, number: int) -> None:
    """Convert a series to a file that is downloaded."""
    (place.root / "scratch").mkdir(exist_ok=True)
    path = place.given(number)
    found = scan_folder(place.root / "ct").usable("CT")[0]
    found = replace(found, series=replace(found.series, uid=f"1.{number}", files=(path,)))
    VolumeExports(place.models / "converted").path_of(found, lambda _, progress: _volume(number))


def result(place: Place, number: int) -> None:
    """Write a result that waits to be sent."""
    write_volume_file(_volume(number), place.models / "results" / f"synthetic-pet-{number}.nrrd")


def users(place: Place, number: int) -> None:
    """Change the users file."""
    password = PasswordHash(16, 8, 1, bytes(16), bytes(32))
    accounts = {name: Account(name, "user", password) for name in ("una", f"user{number}")}
    write_accounts(place.root / "users.json", accounts)


WRITERS: dict[str, Callable[[Place, int], None]] = {
    writer.__name__: writer
    for writer in (upload, label, removal, note, session, pair, stored_series, version, split, checks, index, report,
                   converted, result, users)
}  # fmt: skip


# -- a start, and what must be true then ----------------------------------------------------------------------------


def start(place: Place) -> None:
    """Do what a server does when it starts."""
    remove_leftovers(place.models, is_alone=True)
    remove_leftovers_of_accounts(place.root / "users.json")
    place.datastore().remove_leftovers()
    CheckedSessions(str(place.models / "sessions"), 3600).remove_expired()


def faults(place: Place) -> Iterator[str]:
    """Yield entries whose file is incomplete, and files without an entry."""
    label_store = LabelStore(place.models / "shelf")
    kept = (*label_store.uploads().values(), *label_store.labels())
    yield from (f"{one.image} {one.tag}: torn" for one in kept if not _is_whole(one.path))
    yield from _orphans(place.models / "shelf", {*(one.path.name for one in kept), "contents.sqlite"})
    noted = label_store.notes_of("CT").note
    if noted and noted["first"] != noted["second"]:
        yield "half a note"
    sessions = CheckedSessions(str(place.models / "sessions"), 3600)
    listed = {path.name: sessions.get_session(path.name, update_ts=False) for path in _in(place.models / "sessions")}
    yield from (f"session {name}: not whole" for name, one in listed.items() if one is None or not _is_whole(one.image))
    for name, count in ((KEPT, 2 * SLICES), (STORED, 5)):
        for folder in _in(place.studies / name):
            files = [path for path in folder.rglob("*") if path.is_file()]
            if folder.name.startswith(".") or len(files) != count:
                yield f"{name}/{folder.name}: {len(files)} files"
            elif name == KEPT and not all(map(_is_whole, files)):
                yield f"{name}: torn"
    models = open_store(place.models)
    for one in models.versions("unet"):
        if file_checksum(one.checkpoint) != one.checksum:
            yield f"version {one.number}: torn"
    published = models.published("unet")
    if published is not None and published.checksum not in {one.checksum for one in models.versions("unet")}:
        yield "what is served is no version"
    hidden = [*place.models.rglob(".*"), *place.root.glob(".*")]
    yield from (f"{path.relative_to(place.root)}: left" for path in hidden if path.name != ".split.csv.lock")
    yield from (f"{path.name}: left" for path in _in(place.models / "results"))
    yield from (f"{path.name}: put aside" for path in place.models.rglob("damaged-*"))
    read_split_file(place.models / "split.csv")
    for file in (place.models / "tasks").glob("*"):
        json.loads(file.read_text())
    for path in _in(place.models / "converted"):
        read_volume_file(path, unit=Unit.HU)
    if (place.root / "users.json").exists() and "una" not in read_accounts(place.root / "users.json"):
        yield "the users file is not whole"
    known = HeaderIndex(place.models / "index.sqlite").known("/studies")
    if not all(file.content == "not a DICOM file" for file in known.values()):
        yield "a header is not whole"


def _in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _orphans(folder: Path, named: set[str]) -> Iterator[str]:
    return (f"{folder.name}/{path.name}: listed nowhere" for path in _in(folder) if path.name not in named)


def _is_whole(path: Path | str) -> bool:
    content = Path(path).read_bytes()
    return len(content) == BYTES and len(set(content)) == 1


def _volume(number: int) -> Volume:
    return Volume(np.full((4, 32, 32), number % 100, dtype=np.float32), Geometry((4, 32, 32), np.eye(4)), Unit.HU)


def _pair(number: int) -> SeriesPair:
    file = (Path("1.dcm"),)
    ct = Series(f"1.{number}", "1", f"P{number}", "CT", "1.5", "", file)
    return SeriesPair(ct, Series(f"2.{number}", "1", f"P{number}", "PT", "1.5", "", file))


# -- killing --------------------------------------------------------------------------------------------------------


def killed_at_a_line(begun: Event, place: Place, name: str, number: int, seed: int) -> None:
    """Write once and count the lines; write again and die at one of them."""
    lines = _lines_of(lambda: WRITERS[name](place, number), die_at=0)
    begun.set()
    die_at = random.Random(seed).randint(1, max(1, lines))
    _lines_of(lambda: WRITERS[name](place, number + 1), die_at=die_at)


def writing_for_ever(begun: Event, place: Place, name: str, number: int) -> None:
    """Write again and again."""
    begun.set()
    while True:
        WRITERS[name](place, number)
        number += 1


def _lines_of(work: Callable[[], None], *, die_at: int) -> int:
    count = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == "line":
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count
