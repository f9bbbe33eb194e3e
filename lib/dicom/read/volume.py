"""Reading of a series as a volume: CT in HU, PET in SUVbw or Bq/mL, slices along the right-handed normal."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.dicom.attributes.transfer_syntax import is_plain_encoding
from lib.dicom.instance_header import BedHeader, InstanceHeader, PetHeader, SharedHeader
from lib.dicom.pixel_data.decoder import DecoderPool
from lib.dicom.read.consistency import refuse_mixed_stack
from lib.dicom.read.frame_pixels import read_frames
from lib.dicom.read.pixels import ReadSlice, read_slice
from lib.dicom.read.series_filter import why_not, why_not_synthetic
from lib.dicom.read.slice_order import order_stack
from lib.dicom.suv.body_weight import SLICES_DISAGREE, Scale, activity_scale, suv_scale
from lib.errors import DicomError, UnsupportedSeriesError
from lib.imaging.files.header_check import FLOAT_BYTES, MAX_VOLUME_BYTES
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.parallel import ordered_map
from lib.processors import available_processors
from lib.types import FloatArray, Progress, Series, no_progress

MAX_THREADS = 4  # `memory_estimate.py` counts their slices
SLICES_OF_A_THREAD = 32  # decoding JPEG 2000 takes 20 ms a slice, JPEG-LS 5, and starting the process of a decoder 300
MOVED = 0.1  # of the slice spacing; what is left of unequal spacings in a CT is less
CT_FLOOR_HU = -1024.0  # air; lower values are padding (-2000, -3024)


@dataclass(frozen=True, eq=False)
class _Slices:
    """All slices of a series in stack order: rescaled values (K, R, C), headers, geometry."""

    array: FloatArray
    headers: tuple[InstanceHeader, ...]
    geometry: Geometry


def read_ct(series: Series, *, progress: Progress = no_progress) -> Volume:
    """Return a CT volume in HU; padding below -1024 becomes -1024.

    Raises:
        DicomError: A file is damaged, or the files are not a usable CT; the message names the series.
    """
    slices = _read(series, "CT", progress=progress)
    return Volume(slices.array, slices.geometry, Unit.HU)


def read_ct_slab(series: Series, slices: slice, *, geometry: Geometry, progress: Progress = no_progress) -> Volume:
    """Return a CT volume of which only some slices are read; all others are 0, and take no memory.

    Args:
        series: The CT.
        slices: The slices to read, in stack order, at least two.
        geometry: Of the whole CT, as its headers were listed.
        progress: Called after every slice.

    Raises:
        DicomError: As `read_ct`, or the slices are no longer where they were listed.
    """
    slab = _read(series.of_slices(series.slices[slices]), "CT", progress=progress)
    tolerance_mm = MOVED * geometry.spacing_mm[0]
    if not slab.geometry.same_grid_as(geometry.slab(slices), tolerance_mm=tolerance_mm):
        raise DicomError(f"series {series.uid}: its slices have moved; scan the folder again")
    array = np.zeros(geometry.shape, np.float32)
    array[slices] = slab.array
    return Volume(array, geometry, Unit.HU)


def read_pet(series: Series, *, progress: Progress = no_progress) -> Volume:
    """Return a PET volume in SUVbw, g/mL; NaN in padding.

    Raises:
        MissingAttributeError: The header lacks the weight, the dose or a time; `read_activity` may still work.
        UnsupportedSeriesError: The SUV type or unit is not supported, or the PET is not attenuation-corrected.
        DicomError: A file is damaged, or header values are invalid; the message names the series.
    """
    return _read_pet(series, suv_scale, Unit.SUV_BW, progress=progress)


def read_activity(series: Series) -> Volume:
    """Return a PET volume in Bq/mL, as decay-corrected by the scanner.

    Raises:
        UnsupportedSeriesError: The series is stored in other units (GML is SUV already: use `read_pet`).
        DicomError: As in `read_pet`.
    """
    return _read_pet(series, lambda pet, _: activity_scale(pet), Unit.BQML)


def read_synthetic_pet(series: Series) -> Volume:
    """Return a synthetic PET in SUVbw, for display or evaluation, never for training.

    Raises:
        UnsupportedSeriesError: The series is a measured PET (use `read_pet`), or not slices of a volume.
        DicomError: As in `read_pet`.
    """
    return _read_pet(series, suv_scale, Unit.SUV_BW, why_not_synthetic)


def _read_pet(
    series: Series,
    scale_of: Callable[[PetHeader, Iterable[BedHeader]], Scale],
    unit: Unit,
    why_other: Callable[[SharedHeader], str | None] = why_not,
    progress: Progress = no_progress,
) -> Volume:
    slices = _read(series, "PT", why_other, progress=progress)
    pets = {header.shared.pet for header in slices.headers if header.shared.pet is not None}
    if len(pets) != 1:
        raise DicomError(f"series {series.uid}: {SLICES_DISAGREE}")
    beds = {header.shared.bed for header in slices.headers if header.shared.bed is not None}
    try:
        scale = scale_of(pets.pop(), beds)
    except DicomError as error:
        raise error.with_message(f"series {series.uid}: {error}") from error
    for header, of_slice in zip(slices.headers, slices.array, strict=True):
        of_slice *= np.float32(scale.of(header.shared.bed))
    return Volume(slices.array, slices.geometry, unit)


def _read(
    series: Series,
    modality: str,
    why_other: Callable[[SharedHeader], str | None] = why_not,
    *,
    progress: Progress = no_progress,
) -> _Slices:
    """Return the slices in stack order, regardless of the order of `series.files`."""
    if series.modality != modality:
        raise UnsupportedSeriesError(f"series {series.uid}: modality {series.modality}, expected {modality}")
    headers: list[InstanceHeader] = []
    layouts: set[tuple[bool | None, int]] = set()
    checked: SharedHeader | None = None
    volume = _Voxels(series.slice_count, CT_FLOOR_HU if modality == "CT" else None)
    try:
        with closing(_pieces(series, volume)) as pieces:
            for k, piece in enumerate(pieces):
                if piece.header.shared != checked:  # most slices share one header
                    _refuse_other(piece.header, series, why_other)
                    checked = piece.header.shared
                if piece.values.shape != volume.array.shape[1:]:
                    name = piece.header.file.name
                    raise DicomError(
                        f"{name}: {piece.values.shape} pixels, expected {volume.array.shape[1:]} as before"
                    )
                headers.append(piece.header)
                layouts.add(piece.pixel_format.layout)
                progress(k + 1, series.slice_count, "reading")
        if len(layouts) > 1:
            raise DicomError(
                "its slices differ in PixelRepresentation, or in how HighBit goes with BitsStored: one is damaged"
            )
        refuse_mixed_stack(headers)
        stack = order_stack(headers)
    except DicomError as error:
        raise error.with_message(f"series {series.uid}: {error}") from error
    index = {(header.path, header.frame): k for k, header in enumerate(headers)}
    order = [index[header.path, header.frame] for header in stack.headers]
    array = volume.array if order == list(range(len(order))) else volume.array[order]
    return _Slices(array, stack.headers, stack.geometry)


class _Voxels:
    """The array of a volume, filled by the threads that read its slices.

    Args:
        slices: Their number.
        floor: Replaces lower values; None if there is no limit.
    """

    def __init__(self, slices: int, floor: float | None) -> None:
        self._slices, self._floor = slices, floor
        self.array = np.empty((0, 0, 0), np.float32)

    def allocate(self, shape: tuple[int, ...]) -> None:
        """Allocate slices of this shape; raise DicomError if the volume is too large."""
        _refuse_huge((self._slices, *shape))
        self.array = np.empty((self._slices, *shape), np.float32)

    def put(self, k: int, values: FloatArray) -> None:
        """Store slice `k`, unless its shape is another; the first has to be put before others."""
        if k == 0:
            self.allocate(values.shape)
        if values.shape == self.array.shape[1:]:
            np.maximum(values, -np.inf if self._floor is None else self._floor, out=self.array[k])


def _refuse_huge(shape: tuple[int, ...]) -> None:
    if math.prod(shape) * FLOAT_BYTES > MAX_VOLUME_BYTES:
        size = " x ".join(map(str, shape))
        raise DicomError(f"{size} voxels, expected a volume of at most {MAX_VOLUME_BYTES / 1e9:.0f} GB")


def decoding_threads(slices: int) -> int:
    """Return how many threads read a number of compressed slices, each with a process that decodes.

    Slices that are not compressed are read by one thread: parsing headers holds the interpreter's lock, and several
    threads took as long, and a quarter more of processor time.
    """
    return min(MAX_THREADS, available_processors(), 1 + slices // SLICES_OF_A_THREAD)


def _pieces(series: Series, volume: _Voxels) -> Generator[ReadSlice, None, None]:
    """Yield all slices in the order of `series.slices`, each file opened once, after storing their values."""
    frames_of_file: dict[Path, list[int]] = {}
    for source in series.slices:
        frames_of_file.setdefault(source.path, []).append(source.frame)
    if any(frames != [0] for frames in frames_of_file.values()):
        slices = (
            piece
            for path, frames in frames_of_file.items()
            for piece in ([read_slice(path)] if frames == [0] else read_frames(path, frames))
        )
        for k, piece in enumerate(slices):
            volume.put(k, piece.values)
            yield piece
        return
    with DecoderPool() as decoders:

        def read(numbered: tuple[int, Path]) -> ReadSlice:
            """Return a slice after storing its values."""
            k, path = numbered
            piece = read_slice(path, decoders.decoder())
            volume.put(k, piece.values)
            return piece

        numbered = enumerate(frames_of_file)
        first = read(next(numbered))
        yield first
        is_plain = is_plain_encoding(first.header.shared.transfer_syntax_uid)
        threads = 1 if is_plain else decoding_threads(len(frames_of_file))
        with closing(ordered_map(read, numbered, threads=threads)) as pieces:
            yield from pieces


def _refuse_other(header: InstanceHeader, series: Series, why_other: Callable[[SharedHeader], str | None]) -> None:
    shared = header.shared
    if shared.series_instance_uid != series.uid:
        raise DicomError(f"{header.file.name}: now of series {shared.series_instance_uid}; scan the folder again")
    reason = why_other(shared)
    if reason is not None:
        raise UnsupportedSeriesError(f"{header.file.name}: {reason}")
