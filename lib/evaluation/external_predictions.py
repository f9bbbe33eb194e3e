"""Synthetic PETs that other programs drew of the same CTs, read so that they can stand beside the model's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.errors import ImageFileError, InputError, PairingError
from lib.imaging.files.volume_file import SUFFIXES, read_volume_file, voxels_are_float
from lib.imaging.geometry import Geometry
from lib.imaging.orientation import to_canonical
from lib.imaging.resample import resample_to
from lib.imaging.resample_2d import resample_in_plane
from lib.imaging.volume import Unit, Volume
from lib.metrics.criteria import METHODS
from lib.types import BoolArray, FloatArray

TAKEN = (*METHODS, "real")  # names that mean something else
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,23}")  # fits a table's column
LOWEST_SUV, HIGHEST_SUV = -5.0, 500.0  # networks undershoot a little; the hottest bladder is about 200, air in HU -1000
MIN_COVERED = 0.95  # of the body; what a peer left out counts as 0, so it must not be much


@dataclass(frozen=True)
class Peer:
    """Another program: what the report calls it, and its folder of one volume a CT, `<CT SeriesInstanceUID>.nrrd`."""

    name: str
    folder: Path

    def file_of(self, ct_series_instance_uid: str) -> Path:
        """Return the file of a CT's synthetic PET.

        Raises:
            ImageFileError: There is none, or several.
        """
        names = [f"{ct_series_instance_uid}{suffix}" for suffix in SUFFIXES]
        found = [path for name in names if (path := self.folder / name).is_file()]
        if len(found) != 1:
            those = f"{len(found)} volumes ({', '.join(path.name for path in found)})" if found else "no volume"
            raise ImageFileError(
                f"{self.name} has {those} of CT {ct_series_instance_uid}; expected one, named by the CT's "
                f"SeriesInstanceUID and one of {', '.join(SUFFIXES)}"
            )
        return found[0]


def parse_external_predictions(texts: Iterable[str]) -> tuple[Peer, ...]:
    """Return the peers that texts of the form NAME=FOLDER name.

    Raises:
        InputError: Not of that form, a name that is taken or unfit, or no such folder.
    """
    external: list[Peer] = []
    for text in texts:
        name, separator, folder = text.partition("=")
        if not separator or not NAME.fullmatch(name):
            raise InputError(f"{text!r} is not NAME=FOLDER, a name of letters, digits and . _ + - before the folder")
        if name in TAKEN or name in {peer.name for peer in external}:
            raise InputError(f"the name {name!r} is taken; call the volumes of {folder} otherwise")
        if not Path(folder).is_dir():
            raise InputError(f"{name}: {folder} is not a folder")
        external.append(Peer(name, Path(folder)))
    return tuple(external)


def read_peer(peer: Peer, ct_series_instance_uid: str, *, geometry: Geometry, body: BoolArray) -> FloatArray:
    """Return a peer's synthetic PET on the grid that figures are computed on, SUVbw (K, R, C), 0 where it drew nothing.

    A volume of the CT's slices and outer edges comes onto the grid's pixels as the model's own PET does; any other is
    interpolated linearly.

    Raises:
        ImageFileError: None or several of this CT, damaged, whole numbers, or no SUVs.
        PairingError: It lies elsewhere, or covers too little of the body.
    """
    path = peer.file_of(ct_series_instance_uid)
    volume = read_volume_file(path, unit=Unit.SUV_BW)
    where = f"{peer.name}, {path.name}"
    if not voxels_are_float(path):
        raise ImageFileError(f"{where}: voxels are whole numbers, expected SUVbw as float; export it without rounding")
    low, high = float(volume.array.min()), float(volume.array.max())
    if low < LOWEST_SUV or high > HIGHEST_SUV:
        raise ImageFileError(
            f"{where}: values from {low:g} to {high:g}, expected SUVbw between {LOWEST_SUV:g} and {HIGHEST_SUV:g}; "
            f"{'is it a CT, or normalised?' if low < LOWEST_SUV else 'is it in Bq/mL, or scaled?'}"
        )
    suv_bw = _onto(volume, geometry)
    drawn = np.isfinite(suv_bw)
    covered = float(drawn[body].mean()) if body.any() else 1.0
    if covered < MIN_COVERED:
        raise PairingError(
            f"{where}: covers {covered:.0%} of the body that is compared, expected at least {MIN_COVERED:.0%}; write "
            "the whole volume, with the CT's origin, spacing and directions"
        )
    return np.where(drawn, suv_bw, np.float32(0))


def _onto(volume: Volume, geometry: Geometry) -> FloatArray:
    volume = to_canonical(volume)  # as the grid is: another voxel order alone is no reason to interpolate
    rows, columns = geometry.shape[1:]
    if volume.geometry.with_pixels(rows, columns).same_grid_as(geometry):
        return resample_in_plane(volume.array, rows, columns)
    return resample_to(volume, geometry).array
