"""CT volumes of series and uploads: NIfTI, NRRD or MHA in HU, or a zip or folder of one DICOM series."""

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
from lib.dicom.scan.open_ct import read_ct_file, read_ct_series, read_ct_series_slab
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.errors import CT2PETError, ImageFileError, InputError, OutputError
from lib.imaging.files.header_check import refuse_unless_alone
from lib.imaging.files.memory_estimate import announced_shape, file_read_bytes, series_read_bytes
from lib.imaging.files.volume_file import SUFFIXES
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Volume
from lib.types import LocalFiles, Progress, Series, already_local, no_progress

MAX_FILES = 20_000  # of a zip; a long dynamic study has some thousand slices
MAX_UNPACKED_BYTES = 16 * 10**9  # of a zip: a bomb stops here
MAX_TIMES_PACKED = 100  # DICOM packs 2 to 5 times, empty slices more; a bomb 1,000 times
ALWAYS_UNPACKED_BYTES = 2**25
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # other methods can require gigabytes of memory
SUPPORTED = (*SUFFIXES, ".zip")
DEFAULT_NAME = "upload.nii.gz"  # of an upload without a file name


@dataclass(frozen=True)
class OpenedCT:
    """A CT whose files are on this machine and whose headers were read.

    Attributes:
        shape: (K, R, C).
        read_bytes: Peak of memory while it is read.
        read: Reads the pixels; raises InputError if they are not a CT. The progress is called after every slice.
        geometry: Of a DICOM series; None for a volume file, whose geometry is known after reading.
        warnings: Warnings about a DICOM series, such as instances that are left out.
        series: The DICOM series, whose files are on this machine; None for a volume file.
        read_slab: Reads the pixels of some slices only, see `read_ct_series_slab`; None for a volume file.
    """

    shape: tuple[int, int, int]
    read_bytes: int
    read: Callable[[Progress], Volume]
    geometry: Geometry | None = None
    warnings: tuple[str, ...] = ()
    series: Series | None = None
    read_slab: Callable[[slice, Progress], Volume] | None = None


@dataclass(frozen=True)
class CTSource:
    """The CT of a request.

    Attributes:
        name: Series UID, or the name of an upload in messages.
        image_id: In the datastore; None for an upload of the request.
        open: Returns a context in which the CT's files are on this machine: fetched from a PACS, or unpacked from a
            zip. Its argument returns whether the client has disconnected.
        pet: The real PET of the same study, if there is one.
        ct: The CT as a DICOM series; None for volume files and uploads.
        files: The files to read; empty for an upload of the request, which is read once.
        warnings: The warnings of the listing.
        local_files: Returns a context in which the files of series exist; read `pet` and `ct` inside it.
        pet_shape: (K, R, C) of `pet`.
        geometry: Of `ct`, by its headers.
    """

    name: str
    image_id: str | None
    open: Callable[[IsDisconnected], AbstractContextManager[OpenedCT]]
    pet: Series | None = None
    local_files: LocalFiles = already_local
    ct: Series | None = None
    files: tuple[Path, ...] = ()
    pet_shape: tuple[int, int, int] | None = None
    warnings: tuple[str, ...] = ()
    geometry: Geometry | None = None

    def read(self) -> Volume:
        """Return the pixels, without a memory budget.

        Raises:
            InputError: They are not a CT.
        """
        with self.open(never) as opened:
            return opened.read(no_progress)


def source_of_series(
    ct: ScannedSeries, pet: ScannedSeries | None, *, local_files: LocalFiles = already_local
) -> CTSource:
    """Return the source of a usable series of the datastore, and of its PET."""

    @contextlib.contextmanager
    def opened(is_disconnected: IsDisconnected) -> Iterator[OpenedCT]:
        with local_files(ct.series, cancelled=is_disconnected):
            yield _opened_series(ct)

    real, shape = (None, None) if pet is None or pet.geometry is None else (pet.series, pet.geometry.shape)
    return CTSource(
        ct.series.uid,
        ct.series.uid,
        opened,
        real,
        local_files,
        ct.series,
        ct.series.files,
        shape,
        geometry=ct.geometry,
    )


def source_of_file(path: Path, name: str, *, image_id: str | None = None, kept: bool = False) -> CTSource:
    """Return the source of an uploaded file or, from a session, folder.

    Args:
        path: The file, or a folder of one DICOM series.
        name: What messages call it.
        image_id: Under which the datastore has it.
        kept: Whether the file is kept, so that it can be requested again.
    """
    files = (tuple(sorted(path.rglob("*"))) if path.is_dir() else (path,)) if kept else ()
    return CTSource(name, image_id, lambda _: opened_upload(path, name), files=files)


@contextlib.contextmanager
def opened_upload(path: Path, name: str) -> Iterator[OpenedCT]:
    """Yield the CT of an uploaded file or folder; a zip is unpacked until the context ends.

    Raises:
        ImageFileError: Another kind of file, damaged, or a header that cannot belong to a CT.
        DicomError: A zip or folder without a usable CT; the message lists the reason for each series.
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
        ImageFileError: As `opened_upload`, or its values are not HU.
        DicomError: As `opened_upload`.
    """
    with opened_upload(path, name) as opened:
        return opened.read(no_progress)


def _opened_series(found: ScannedSeries) -> OpenedCT:
    geometry = found.geometry
    assert geometry is not None  # of every usable series
    shape = geometry.shape

    def read_slab(slices: slice, progress: Progress) -> Volume:
        """Return the volume with these slices."""
        return read_ct_series_slab(found.series, slices, geometry=geometry, progress=progress)

    return OpenedCT(
        shape,
        series_read_bytes(shape),
        lambda progress: read_ct_series(found.series, progress=progress),
        geometry,
        found.warnings,
        found.series,
        read_slab,
    )


@contextlib.contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Replace the server's file name by the client's in error messages."""
    try:
        yield
    except InputError as error:
        raise error.with_message(str(error).replace(path.name, name)) from error


def suffix_of(name: str) -> str:
    """Return the extension of an uploaded file.

    Raises:
        ImageFileError: It is not supported.
    """
    suffix = next((suffix for suffix in SUPPORTED if name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ImageFileError(
            f"{name}: not a supported file type; send a CT in HU as {', '.join(SUFFIXES)}, "
            "or a .zip of one DICOM CT series"
        )
    return suffix


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Write a zip's files into a folder under numbers: names inside an archive cannot be trusted.

    Raises:
        ImageFileError: Not a zip, damaged, encrypted, or far too large.
        OutputError: Not enough disk space.
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
        raise ImageFileError(f"{name}: cannot be unpacked ({error}); send a plain zip of one CT series") from error


def _refuse_bomb(members: list[zipfile.ZipInfo], archive: Path, folder: Path, name: str) -> None:
    announced, packed = sum(member.file_size for member in members), archive.stat().st_size
    if len(members) > MAX_FILES or announced > MAX_UNPACKED_BYTES:
        raise ImageFileError(f"{name}: more than {MAX_FILES} files or 16 GB; send one CT series")
    if announced > max(ALWAYS_UNPACKED_BYTES, MAX_TIMES_PACKED * packed):
        raise ImageFileError(
            f"{name}: {packed} bytes that unpack to {announced}, over {MAX_TIMES_PACKED} times as many; "
            "send a plain zip of one CT series"
        )
    if any(member.compress_type not in METHODS for member in members):
        raise ImageFileError(f"{name}: compressed with another method than deflate; send a plain zip of one CT series")
    if announced > shutil.disk_usage(folder).free:
        raise OutputError(f"{name}: unpacks to {announced / 1e6:.0f} MB, more than the server's disk has room for")


def refuse_impostor(path: Path, name: str) -> None:
    """Raise an error if an upload is not of the type of its name; only its header is read.

    Raises:
        ImageFileError: It is not, or its header cannot belong to a CT.
    """
    if suffix_of(name) != ".zip":
        refuse_unless_alone(path)
    elif not zipfile.is_zipfile(path):
        raise ImageFileError(f"{name}: is not a zip; send a plain zip of one CT series")


@contextlib.contextmanager
def removed_if_refused(upload: Path) -> Iterator[None]:
    """Remove the file of a refused upload: MONAI Label does so only after a successful response."""
    try:
        yield
    except (CT2PETError, OSError):
        upload.unlink(missing_ok=True)
        raise


def only_ct(folder: Path, name: str) -> ScannedSeries:
    """Return the CT series in a folder of uploaded files; only headers are read.

    Raises:
        ImageFileError: There is no usable one, or more than one.
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
    found = "; ".join(_why_not(series) for series in report.series) or "no DICOM files"
    raise ImageFileError(f"{name}: no usable CT series; found {found}")


def require_only_ct(folder: Path, name: str) -> Series:
    """Return the CT series of `only_ct`; raise the same errors."""
    return only_ct(folder, name).series


def _why_not(found: ScannedSeries) -> str:
    series = found.series
    return f"series {series.uid} ({series.modality}): {found.reason or 'not a CT'}"
