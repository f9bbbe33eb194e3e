"""Writing of a synthetic series as a folder of files or as one zip, atomically."""

from __future__ import annotations

import contextlib
import glob
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.scan.folder import UNFINISHED
from lib.dicom.write.pet_series import SyntheticSeries
from lib.dicom.write.streamed_series import StreamedSeries
from lib.errors import InputError, OutputError
from lib.files import TEMPORARY, atomic_file, remove_abandoned, unfinished_folder
from lib.types import Progress, no_progress

SERIES_UID = 0x0020000E
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # required in a zip; constant, so that equal series give equal zips


def write_series(series: SyntheticSeries | StreamedSeries, folder: Path, *, progress: Progress = no_progress) -> Path:
    """Write one file per slice into a folder, which is created if missing; return the folder.

    A new folder appears with all files in one step. In a folder of the same series, or of a slab of it, files are
    replaced atomically; writing the same file again changes nothing.

    Raises:
        InputError: The folder contains other files or cannot be created.
        OutputError: The disk is full; no partial files remain.
        DicomError: A slice has NaN or infinite values.
    """
    refuse_foreign_files(folder, series.uid)
    exists = folder.is_dir()
    parent = folder if exists else folder.parent  # on the same file system, so that moving is atomic
    with _translated_errors(folder):
        parent.mkdir(parents=True, exist_ok=True)
        escaped = glob.escape(folder.name)
        for pattern in (f"{TEMPORARY}.{escaped}", f".{escaped}.*"):  # of this version, and of earlier ones
            remove_abandoned(parent.glob(f"{pattern}{UNFINISHED}"))
        with unfinished_folder(parent, f".{folder.name}{UNFINISHED}") as partial_path:
            for done, (name, file) in enumerate(series.files(), start=1):
                (partial_path / name).write_bytes(file)
                progress(done, len(series), "writing")
            if exists or not _move_into_place(partial_path, folder):
                for path in sorted(partial_path.iterdir()):
                    path.replace(folder / path.name)
    return folder


def write_zip(series: SyntheticSeries, path: Path, *, compression: int = 0, progress: Progress = no_progress) -> Path:
    """Write the series as one zip, with its files in a folder named by its UID; return `path`.

    Args:
        series: The series.
        path: The file.
        compression: zlib's level, 0 to 9; 0 stores the files as they are, any other reduces a PET to 40 %.
        progress: Called after every slice.

    Raises:
        OutputError: The disk is full; no partial file remains.
        DicomError: A slice has NaN or infinite values.
    """
    with _translated_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_file(path) as partial_path,
            zipfile.ZipFile(partial_path, "w") as zipped,
        ):
            for done, (name, file) in enumerate(series.files(), start=1):
                zipped.writestr(_member(f"{series.uid}/{name}", compression), file, compresslevel=compression)
                progress(done, len(series), "writing")
    return path


def refuse_foreign_files(folder: Path, series_uid: str) -> None:
    """Raise unless a series can be written into a folder: it is missing, empty, or has files of that series.

    Raises:
        InputError: The path is a file, or the folder has other content, except for hidden files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; a DICOM series is written into a folder")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    foreign = [path for path in found if not path.name.startswith(".") and not _is_of(path, series_uid)]
    if foreign:
        raise InputError(
            f"{folder}: contains {len(foreign)} other file(s) or folder(s) ({foreign[0].name}, ...), expected an empty "
            "folder or files of the same series; name a new folder"
        )


def _is_of(path: Path, series_uid: str) -> bool:
    if path.suffix != ".dcm" or not path.is_file():
        return False
    try:
        found = read_instance_file(path, tags=[SERIES_UID]).get("SeriesInstanceUID")
    except Exception:  # a damaged file can make a parser raise anything, and is not of the series
        return False
    return str(found) == series_uid


def _move_into_place(partial_path: Path, folder: Path) -> bool:
    """Return whether the folder was moved; False if another process has written the same series first."""
    try:
        partial_path.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        return False
    return True


def _member(name: str, compression: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, ZIP_DATE)
    member.compress_type = zipfile.ZIP_DEFLATED if compression else zipfile.ZIP_STORED
    member.external_attr = 0o644 << 16
    return member


@contextlib.contextmanager
def _translated_errors(target: Path) -> Iterator[None]:
    """Convert errors of the operating system to errors for users."""
    try:
        yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); name a writable path") from error
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}); no partial files remain, free disk space"
        ) from error
