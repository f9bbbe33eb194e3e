"""CT volumes out of files that came with a request: NIfTI, NRRD, MHA in HU, or a zip or folder of one DICOM series."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.dicom.open_ct import read_ct_file, read_ct_series
from lib.dicom.scan import ScannedSeries, scan_folder
from lib.errors import CT2PETError, ImageFileError, OutputError
from lib.imaging.announced import refuse_unless_alone
from lib.imaging.files import SUFFIXES
from lib.imaging.volume import Volume
from lib.types import AtHand, Series, lie_here

MOST_FILES = 20_000  # of a zip; a long dynamic study has some thousand slices
MOST_UNPACKED_BYTES = 16 * 10**9  # of a zip: a bomb stops here
MOST_TIMES_PACKED = 100  # DICOM packs 2 to 5 times, empty slices more; a bomb 1,000 times
ALWAYS_UNPACKED_BYTES = 2**25
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others can ask for gigabytes of memory
TAKEN = (*SUFFIXES, ".zip")


@dataclass(frozen=True)
class CTSource:
    """A CT that a request names.

    Attributes:
        name: Series UID, or how an upload is called in messages.
        image_id: In the datastore; None for what came with the request.
        read: Reads the pixels; raises InputError when they are no CT.
        pet: The real PET of the same study, if there is one.
        ct: The CT as a DICOM series; None for a volume file, and for an upload, whose files are gone once it is read.
        files: What is read; empty for what came with the request, which nobody asks for twice.
        warnings: What a careful user should know of the CT, as its listing says.
        at_hand: A context in which the files of series lie where `Series.files` says; read `pet` and `ct` inside it.
    """

    name: str
    image_id: str | None
    read: Callable[[], Volume]
    pet: Series | None = None
    at_hand: AtHand = lie_here
    ct: Series | None = None
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


def source_of_series(ct: Series, pet: Series | None, *, at_hand: AtHand = lie_here) -> CTSource:
    """Return the source of a series of the datastore."""

    def read() -> Volume:
        with at_hand(ct):
            return read_ct_series(ct)

    return CTSource(ct.uid, ct.uid, read, pet, at_hand, ct, ct.files)


def source_of_file(path: Path, name: str, *, image_id: str | None = None, kept: bool = False) -> CTSource:
    """Return the source of an uploaded file or, from a session, folder.

    Args:
        path: The file, or a folder of one DICOM series.
        name: What messages call it.
        image_id: Under which the datastore has it.
        kept: Whether the file stays, so that it may be asked for again.
    """
    files = (tuple(sorted(path.rglob("*"))) if path.is_dir() else (path,)) if kept else ()
    return CTSource(name, image_id, lambda: read_uploaded_ct(path, name), files=files)


def read_uploaded_ct(path: Path, name: str) -> Volume:
    """Return the CT of an uploaded file or folder, HU; padding below -1024 becomes -1024.

    Raises:
        ImageFileError: Another kind of file, damaged, or its numbers are no CT in HU.
        DicomError: A zip or folder whose DICOM files are no CT; the reason of each series is named.
    """
    if path.is_dir():
        return read_ct_series(require_only_ct(path, name))
    if suffix_of(name) == ".zip":
        with tempfile.TemporaryDirectory(prefix="ct2pet-") as folder:
            unpack(path, Path(folder), name)
            return read_ct_series(require_only_ct(Path(folder), name))
    return read_ct_file(path, name=name)


def suffix_of(name: str) -> str:
    """Return which kind of file an uploaded one is, by its name.

    Raises:
        ImageFileError: None that is taken.
    """
    suffix = next((suffix for suffix in TAKEN if name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ImageFileError(
            f"{name}: not a kind of file that is taken; give a CT in HU as {', '.join(SUFFIXES)}, "
            "or a .zip of one DICOM CT series"
        )
    return suffix


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Write a zip's files into a folder under numbers: names inside an archive are not to be trusted.

    Raises:
        ImageFileError: Not a zip, damaged, encrypted, or far too large.
        OutputError: The disk has no room for it.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [member for member in zipped.infolist() if not member.is_dir()]
            _refuse_bomb(members, archive, folder, name)
            for number, member in enumerate(members):
                # ZipFile stops at the announced size, so the sum above bounds what is written
                with zipped.open(member) as packed, (folder / f"{number:05d}").open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        raise ImageFileError(f"{name}: cannot be unpacked ({error}); give a plain zip of one CT series") from error


def _refuse_bomb(members: list[zipfile.ZipInfo], archive: Path, folder: Path, name: str) -> None:
    announced, packed = sum(member.file_size for member in members), archive.stat().st_size
    if len(members) > MOST_FILES or announced > MOST_UNPACKED_BYTES:
        raise ImageFileError(f"{name}: more than {MOST_FILES} files or 16 GB; give one CT series")
    if announced > max(ALWAYS_UNPACKED_BYTES, MOST_TIMES_PACKED * packed):
        raise ImageFileError(
            f"{name}: {packed} bytes that unpack to {announced}, over {MOST_TIMES_PACKED} times as many; "
            "give a plain zip of one CT series"
        )
    if any(member.compress_type not in METHODS for member in members):
        raise ImageFileError(f"{name}: packed with another method than deflate; give a plain zip of one CT series")
    if announced > shutil.disk_usage(folder).free:
        raise OutputError(f"{name}: unpacks to {announced / 1e6:.0f} MB, more than the server's disk has room for")


def refuse_impostor(path: Path, name: str) -> None:
    """Return when an upload is of the kind that its name says; reads no more than its header.

    Raises:
        ImageFileError: It is not, or it announces what a CT cannot be.
    """
    if suffix_of(name) != ".zip":
        refuse_unless_alone(path)
    elif not zipfile.is_zipfile(path):
        raise ImageFileError(f"{name}: is no zip; give a plain zip of one CT series")


@contextlib.contextmanager
def removed_if_refused(upload: Path) -> Iterator[None]:
    """Remove the file of a refused upload: MONAI Label does so only after an answer without an error."""
    try:
        yield
    except (CT2PETError, OSError):
        upload.unlink(missing_ok=True)
        raise


def require_only_ct(folder: Path, name: str) -> Series:
    """Return the CT series that lies in a folder of uploaded files; reads headers only.

    Raises:
        ImageFileError: There is none that is usable, or more than one.
    """
    report = scan_folder(folder)
    usable = report.usable("CT")
    if len(usable) == 1:
        return usable[0].series
    if usable:
        listed = ", ".join(found.series.uid for found in usable)
        raise ImageFileError(f"{name}: {len(usable)} CT series ({listed}), expected one; send them one by one")
    found = "; ".join(_why_not(series) for series in report.series) or "no DICOM files at all"
    raise ImageFileError(f"{name}: no usable CT series; found {found}")


def _why_not(found: ScannedSeries) -> str:
    series = found.series
    return f"series {series.uid} ({series.modality}): {found.reason or 'not a CT'}"
