"""A synthetic series on disk: a folder of files, or one zip. Either is there whole, or not at all."""

from __future__ import annotations

import contextlib
import glob
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lib.dicom.read.instance_file import read_instance_file
from lib.dicom.scan.folder import UNFINISHED
from lib.dicom.write.pet_series import SyntheticSeries
from lib.errors import InputError, OutputError
from lib.files import TEMPORARY, atomic_file, remove_abandoned, unfinished_folder
from lib.types import Progress, no_progress

SERIES_UID = 0x0020000E
ALWAYS = (1980, 1, 1, 0, 0, 0)  # a zip's files need a date; equal series make equal zips
QUICK = 1  # zlib's level: synthetic PET shrinks to a third with any


def write_series(series: SyntheticSeries, folder: Path, *, progress: Progress = no_progress) -> Path:
    """Write one file a slice into a folder, made where it is missing; return the folder.

    A new folder appears with all files in one step. In one that holds this very series, or a slab of it, each file is
    put in place whole; the same file again changes nothing.

    Raises:
        InputError: The folder holds other files, which would mix with the series, or cannot be made.
        OutputError: The disk is full; nothing half-written is left.
        DicomError: A slice holds NaN or infinite values.
    """
    refuse_foreign_files(folder, series.uid)
    exists = folder.is_dir()
    home = folder if exists else folder.parent  # on the same disk, so that moving is one step
    with _told(folder):
        home.mkdir(parents=True, exist_ok=True)
        escaped = glob.escape(folder.name)
        for pattern in (f"{TEMPORARY}.{escaped}", f".{escaped}.*"):  # of this version, and of earlier ones
            remove_abandoned(home.glob(f"{pattern}{UNFINISHED}"))
        with unfinished_folder(home, f".{folder.name}{UNFINISHED}") as temporary:
            for done, (name, file) in enumerate(series.files(), start=1):
                (temporary / name).write_bytes(file)
                progress(done, len(series), "writing")
            if exists or not _moved(temporary, folder):
                for path in sorted(temporary.iterdir()):
                    path.replace(folder / path.name)
    return folder


def write_zip(series: SyntheticSeries, path: Path, *, progress: Progress = no_progress) -> Path:
    """Write the series as one zip, its files in a folder named by its UID; return `path`.

    Raises:
        OutputError: The disk is full; nothing half-written is left.
        DicomError: A slice holds NaN or infinite values.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", compresslevel=QUICK) as zipped:
            for done, (name, file) in enumerate(series.files(), start=1):
                zipped.writestr(_member(f"{series.uid}/{name}"), file, compresslevel=QUICK)
                progress(done, len(series), "writing")
    return path


def refuse_foreign_files(folder: Path, series_uid: str) -> None:
    """Return when a series can be written into a folder: it is missing, empty, or holds files of that series.

    Raises:
        InputError: It is a file, or holds something else; files whose names begin with a dot do not count.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; a DICOM series is written into a folder")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    strangers = [path for path in found if not path.name.startswith(".") and not _is_of(path, series_uid)]
    if strangers:
        raise InputError(
            f"{folder}: holds {len(strangers)} other file(s) or folder(s) ({strangers[0].name}, ...) that would mix "
            "with the series; name a new folder"
        )


def _is_of(path: Path, series_uid: str) -> bool:
    if path.suffix != ".dcm" or not path.is_file():
        return False
    try:
        found = read_instance_file(path, tags=[SERIES_UID]).get("SeriesInstanceUID")
    except Exception:  # a damaged file can make a parser raise anything, and is none of ours
        return False
    return str(found) == series_uid


def _moved(temporary: Path, folder: Path) -> bool:
    """Return whether the folder was put in place; False where another process was faster with the same series."""
    try:
        temporary.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        return False
    return True


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, ALWAYS)
    member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return member


@contextlib.contextmanager
def _told(target: Path) -> Iterator[None]:
    """Turn the machine's refusals into sentences."""
    try:
        yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); name one you may write") from error
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}); nothing is left there, free space"
        ) from error
