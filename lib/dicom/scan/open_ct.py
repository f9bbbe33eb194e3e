"""Reading and validation of a CT, the single entry point for all sources.

Folders, a PACS, uploads, sessions, volume files, preparation and training all call `read_ct_series` or `read_ct_file`.
Volumes read by `lib/dicom/read/volume.py` directly are displayed or converted, never passed to a network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.dicom.read.volume import CT_FLOOR_HU, read_ct, read_ct_slab
from lib.dicom.scan.scan import ScannedSeries, require_series, scan_folder
from lib.errors import InputError, UnsupportedSeriesError
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.validation import refuse_unless_ct
from lib.imaging.volume import Unit, Volume
from lib.types import Progress, Series, no_progress


def open_ct(path: Path, *, series_uid: str | None = None, progress: Progress = no_progress) -> Volume:
    """Return the CT of a folder of DICOM files, or of a NIfTI, NRRD or MHA file in HU.

    Args:
        path: Folder or file.
        series_uid: The CT to read if a folder contains several.

    Raises:
        UnsupportedSeriesError: There is no usable CT, or several and no `series_uid`, or the selected CT is not usable.
        ImageFileError: The file is not a CT volume in HU.
    """
    if path.is_file():
        return read_ct_file(path)
    return read_ct_series(find_ct(path, series_uid=series_uid, progress=progress))


def read_ct_series(series: Series, *, progress: Progress = no_progress) -> Volume:
    """Return a CT series in HU, in stored voxel order; padding below -1024 becomes -1024.

    Args:
        series: A series whose files are on this machine.
        progress: Called after every slice.

    Raises:
        DicomError: A file is damaged, or the files are not a usable CT; the message names the series.
        ImageFileError: The values are not plausible as HU, or the volume is oblique.
    """
    volume = read_ct(series, progress=progress)
    refuse_unless_ct(volume, f"series {series.uid}")
    return volume


def read_ct_series_slab(
    series: Series, slices: slice, *, geometry: Geometry, progress: Progress = no_progress
) -> Volume:
    """Return the full volume of a CT series of which only some slices are read and checked; all others are 0.

    Args:
        series: A series whose files are on this machine.
        slices: The slices to read, in stack order, at least two.
        geometry: Of the whole series, as its headers were listed.
        progress: Called after every slice.

    Raises:
        DicomError: As `read_ct_series`, or the slices are no longer where they were listed.
        ImageFileError: As `read_ct_series`; an end of a usable CT may show nothing but air.
    """
    volume = read_ct_slab(series, slices, geometry=geometry, progress=progress)
    refuse_unless_ct(Volume(volume.array[slices], geometry.slab(slices), volume.unit), f"series {series.uid}")
    return volume


def read_ct_file(path: Path, *, name: str | None = None) -> Volume:
    """Return the CT of a volume file in HU, in stored voxel order; padding below -1024 becomes -1024.

    Args:
        path: A NIfTI, NRRD or MHA file.
        name: The name in messages; by default the file's name.

    Raises:
        ImageFileError: The file has another format or is damaged, its values are not plausible as HU, or the volume is
            oblique.
    """
    name = name or path.name
    try:
        volume = read_volume_file(path, unit=Unit.HU)
    except InputError as error:  # users know an upload by its original name, not by the server's
        raise error.with_message(str(error).replace(path.name, name)) from error
    np.maximum(volume.array, CT_FLOOR_HU, out=volume.array)
    refuse_unless_ct(volume, name)
    return volume


def find_ct(path: Path, *, series_uid: str | None = None, progress: Progress = no_progress) -> Series:
    """Return the CT series of a folder of DICOM files, reading headers only.

    Raises:
        UnsupportedSeriesError: The path is a volume file, which has no patient and study; there is no usable CT, or
            several and no `series_uid`, or the selected CT is not usable.
    """
    if path.is_file():
        raise UnsupportedSeriesError(
            f"{path.name}: a file without patient and study, expected the DICOM folder of a CT to write a DICOM series"
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
