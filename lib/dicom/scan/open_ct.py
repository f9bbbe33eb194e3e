"""The one gate for a CT: whatever door it comes through, it is read here and refused here, in the same words.

A folder, a PACS, an upload, a session, a volume file, preparation and training all call `read_ct_series` or
`read_ct_file`. What is read otherwise (`lib/dicom/read/volume.py`) is shown or converted, never given to a network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.dicom.read.volume import CT_FLOOR_HU, read_ct
from lib.dicom.scan.scan import ScannedSeries, require_series, scan_folder
from lib.errors import InputError, UnsupportedSeriesError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.validation import refuse_unless_ct
from lib.imaging.volume import Unit, Volume
from lib.types import Progress, Series, no_progress


def open_ct(path: Path, *, series_uid: str | None = None, progress: Progress = no_progress) -> Volume:
    """Return the CT of a folder of DICOM files, or of a NIfTI, NRRD or MHA file in HU.

    Args:
        path: Folder or file.
        series_uid: Which CT, where a folder holds several.

    Raises:
        UnsupportedSeriesError: No usable CT, several and none named, or the named one is not usable.
        ImageFileError: A file that is not a CT volume in HU.
    """
    if path.is_file():
        return read_ct_file(path)
    return read_ct_series(find_ct(path, series_uid=series_uid, progress=progress))


def read_ct_series(series: Series, *, progress: Progress = no_progress) -> Volume:
    """Return a CT series in HU, in its stored voxel order; padding below -1024 becomes -1024.

    Args:
        series: Whose files lie here.
        progress: Called after every slice.

    Raises:
        DicomError: A file is damaged, or the files are no usable CT; the message names the series.
        ImageFileError: The numbers cannot be a CT in HU, or the volume is oblique.
    """
    volume = read_ct(series, progress=progress)
    refuse_unless_ct(volume, f"series {series.uid}")
    return volume


def read_ct_file(path: Path, *, name: str | None = None) -> Volume:
    """Return the CT of a volume file in HU, in its stored voxel order; padding below -1024 becomes -1024.

    Args:
        path: NIfTI, NRRD or MHA.
        name: What messages call it; the file's name when not given.

    Raises:
        ImageFileError: Not such a file, damaged, its numbers cannot be a CT in HU, or the volume is oblique.
    """
    name = name or path.name
    try:
        volume = read_volume_file(path, unit=Unit.HU)
    except InputError as error:  # the user knows an upload by the name it came with, not by the server's
        raise error.with_message(str(error).replace(path.name, name)) from error
    np.maximum(volume.array, CT_FLOOR_HU, out=volume.array)
    refuse_unless_ct(volume, name)
    return volume


def find_ct(path: Path, *, series_uid: str | None = None, progress: Progress = no_progress) -> Series:
    """Return the CT series of a folder of DICOM files; reads headers only.

    Raises:
        UnsupportedSeriesError: A volume file, which has no patient and no study; no usable CT, several and none named,
            or the named one is not usable.
    """
    if path.is_file():
        raise UnsupportedSeriesError(
            f"{path.name}: a file, which knows no patient and no study; a DICOM series is made of a CT's DICOM folder"
        )
    return _choose(require_series(scan_folder(path, progress=progress)).series, path, series_uid).series


def _choose(series: tuple[ScannedSeries, ...], path: Path, series_uid: str | None) -> ScannedSeries:
    if series_uid is not None:
        named = next((found for found in series if found.series.uid == series_uid), None)
        if named is None or named.series.modality != "CT" or not named.is_usable:
            reason = "not found" if named is None else named.reason or f"it is {named.series.modality}, not CT"
            raise UnsupportedSeriesError(
                f"{path}: series {series_uid}: {reason}", code="series_not_usable", series_instance_uid=series_uid
            )
        return named
    usable = [found for found in series if found.series.modality == "CT" and found.is_usable]
    if not usable:
        reasons = "; ".join(f"{found.series.uid}: {found.reason}" for found in series if found.reason)
        raise UnsupportedSeriesError(f"{path}: no usable CT series{f' ({reasons})' if reasons else ''}")
    if len(usable) > 1:
        uids = [found.series.uid for found in usable]
        raise UnsupportedSeriesError(
            f"{path}: {len(usable)} CT series, expected one; choose one of {', '.join(uids)}",
            code="several_ct_series",
            series_instance_uids=uids,
        )
    return usable[0]
