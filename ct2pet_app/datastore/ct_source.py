"""CT volumes out of files that came with a request: NIfTI, NRRD, MHA in HU, or a zip or folder of one DICOM series."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from ct2pet_app.server.concurrency import IsDisconnected, never
from lib.dicom.scan.open_ct import read_ct_file, read_ct_series
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.errors import CT2PETError, ImageFileError, InputError, OutputError
from lib.imaging.files.header_check import refuse_unless_alone
from lib.imaging.files.memory_estimate import announced_shape, file_read_bytes, series_read_bytes
from lib.imaging.files.volume_file import SUFFIXES
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Volume
from lib.types import AtHand, Progress, Series, lie_here, no_progress

MAX_FILES = 20_000  # of a zip; a long dynamic study has some thousand slices
MAX_UNPACKED_BYTES = 16 * 10**9  # of a zip: a bomb stops here
MAX_TIMES_PACKED = 100  # DICOM packs 2 to 5 times, empty slices more; a bomb 1,000 times
ALWAYS_UNPACKED_BYTES = 2**25
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others can ask for gigabytes of memory
TAKEN = (*SUFFIXES, ".zip")
DEFAULT_NAME = "upload.nii.gz"  # of an upload without a file name


@dataclass(frozen=True)
class OpenedCT:
    """A CT whose files lie on this machine and whose headers were read.

    Attributes:
        shape: (K, R, C).
        read_bytes: Peak of memory while it is read.
        read: Reads the pixels; raises InputError when they are no CT. The progress is called after every slice.
        geometry: Of a DICOM series; None for a volume file, where it is known once it is read.
        warnings: What a careful user should know of a DICOM series, such as instances that are left out.
    """

    shape: tuple[int, int, int]
    read_bytes: int
    read: Callable[[Progress], Volume]
    geometry: Geometry | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CTSource:
    """A CT that a request names.

    Attributes:
        name: Series UID, or how an upload is called in messages.
        image_id: In the datastore; None for what came with the request.
        open: Gives the CT in a context in which its files lie here: fetched from a PACS, unpacked from a zip. Takes a
            function that tells whether it is still wanted.
        pet: The real PET of the same study, if there is one.
        ct: The CT as a DICOM series; None for a volume file, and for an upload, whose files are gone once it is read.
        files: What is read; empty for what came with the request, which nobody asks for twice.
        warnings: What a careful user should know of the CT, as its listing says.
        at_hand: A context in which the files of series lie where `Series.files` says; read `pet` and `ct` inside it.
        pet_shape: (K, R, C) of `pet`.
    """

    name: str
    image_id: str | None
    open: Callable[[IsDisconnected], AbstractContextManager[OpenedCT]]
    pet: Series | None = None
    at_hand: AtHand = lie_here
    ct: Series | None = None
    files: tuple[Path, ...] = ()
    pet_shape: tuple[int, int, int] | None = None
    warnings: tuple[str, ...] = ()

    def read(self) -> Volume:
        """Return the pixels, without a memory budget.

        Raises:
            InputError: They are no CT.
        """
        with self.open(never) as opened:
            return opened.read(no_progress)


def source_of_series(ct: ScannedSeries, pet: ScannedSeries | None, *, at_hand: AtHand = lie_here) -> CTSource:
    """Return the source of a usable series of the datastore, and of its PET."""

    @contextlib.contextmanager
    def opened(is_disconnected: IsDisconnected) -> Iterator[OpenedCT]:
        with at_hand(ct.series, cancelled=is_disconnected):
            yield _opened_series(ct)

    real, shape = (None, None) if pet is None else (pet.series, _shape_of(pet))
    return CTSource(ct.series.uid, ct.series.uid, opened, real, at_hand, ct.series, ct.series.files, shape)


def source_of_file(path: Path, name: str, *, image_id: str | None = None, kept: bool = False) -> CTSource:
    """Return the source of an uploaded file or, from a session, folder.

    Args:
        path: The file, or a folder of one DICOM series.
        name: What messages call it.
        image_id: Under which the datastore has it.
        kept: Whether the file stays, so that it may be asked for again.
    """
    files = (tuple(sorted(path.rglob("*"))) if path.is_dir() else (path,)) if kept else ()
    return CTSource(name, image_id, lambda _: opened_upload(path, name), files=files)


@contextlib.contextmanager
def opened_upload(path: Path, name: str) -> Iterator[OpenedCT]:
    """Give the CT of an uploaded file or folder; a zip is unpacked onto the disk as long as the context lasts.

    Raises:
        ImageFileError: Another kind of file, damaged, or a header that cannot be a CT's.
        DicomError: A zip or folder whose DICOM files are no CT; the reason of each series is named.
    """
    if path.is_dir():
        yield _opened_series(only_ct(path, name))
    elif suffix_of(name) == ".zip":
        with tempfile.TemporaryDirectory(prefix="ct2pet-") as folder:
            unpack(path, Path(folder), name)
            yield _opened_series(only_ct(Path(folder), name))
    else:
        with _named(path, name):
            shape, read_bytes = announced_shape(path), file_read_bytes(path)
        yield OpenedCT(shape, read_bytes, lambda _: read_ct_file(path, name=name))


def read_uploaded_ct(path: Path, name: str) -> Volume:
    """Return the CT of an uploaded file or folder, HU; padding below -1024 becomes -1024.

    Raises:
        ImageFileError: As `opened_upload`, or its numbers are no CT in HU.
        DicomError: As `opened_upload`.
    """
    with opened_upload(path, name) as opened:
        return opened.read(no_progress)


def _opened_series(found: ScannedSeries) -> OpenedCT:
    shape = _shape_of(found)
    return OpenedCT(
        shape,
        series_read_bytes(shape),
        lambda progress: read_ct_series(found.series, progress=progress),
        found.geometry,
        found.warnings,
    )


def _shape_of(found: ScannedSeries) -> tuple[int, int, int]:
    assert found.geometry is not None  # of every usable series
    return found.geometry.shape


@contextlib.contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Let errors call an upload by the name it came with, not by the server's."""
    try:
        yield
    except InputError as error:
        raise error.with_message(str(error).replace(path.name, name)) from error


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
    if len(members) > MAX_FILES or announced > MAX_UNPACKED_BYTES:
        raise ImageFileError(f"{name}: more than {MAX_FILES} files or 16 GB; give one CT series")
    if announced > max(ALWAYS_UNPACKED_BYTES, MAX_TIMES_PACKED * packed):
        raise ImageFileError(
            f"{name}: {packed} bytes that unpack to {announced}, over {MAX_TIMES_PACKED} times as many; "
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


def only_ct(folder: Path, name: str) -> ScannedSeries:
    """Return the CT series that lies in a folder of uploaded files; reads headers only.

    Raises:
        ImageFileError: There is none that is usable, or more than one.
    """
    report = scan_folder(folder)
    usable = report.usable("CT")
    if len(usable) == 1:
        if not report.skipped:
            return usable[0]
        left_out = f"{len(report.skipped)} file(s) of the upload left out, first: {report.skipped[0].reason}"
        return replace(usable[0], warnings=(*usable[0].warnings, left_out))
    if usable:
        listed = ", ".join(found.series.uid for found in usable)
        raise ImageFileError(f"{name}: {len(usable)} CT series ({listed}), expected one; send them one by one")
    found = "; ".join(_why_not(series) for series in report.series) or "no DICOM files at all"
    raise ImageFileError(f"{name}: no usable CT series; found {found}")


def require_only_ct(folder: Path, name: str) -> Series:
    """Return the CT series of `only_ct`; its errors."""
    return only_ct(folder, name).series


def _why_not(found: ScannedSeries) -> str:
    series = found.series
    return f"series {series.uid} ({series.modality}): {found.reason or 'not a CT'}"
