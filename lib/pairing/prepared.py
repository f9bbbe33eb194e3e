"""Prepared pairs on disk: memory-mapped arrays and an index with their origin.

::

    DIR/index.json            the recipe's grid and windows, and every pair
    DIR/pairs/<id>/ct.npy     (K, R, C) CT, unit range: float16, or uint8 levels under an 8-bit recipe
    DIR/pairs/<id>/pet.npy    (K, R, C) PET, unit range: float16, or uint8 levels
    DIR/pairs/<id>/regions.npy  (K, R, C) uint8: bit 0 body, bit 1 measured by the PET scanner, bit 2 contoured tumour
    DIR/pairs/<id>/organs.npy (K, R, C) uint16: 0, or n for the n-th organ of the pair's entry; only where segmented
    DIR/pairs/<id>/pair.json  this pair's entry of the index

Reading needs numpy only: prepared arrays can be copied to a machine without DICOM packages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import PreparedDataError, RecipeError
from lib.files import write_text
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.imaging.label_map import LabelArray, Organs
from lib.imaging.normalize import Windows, denormalize_ct, denormalize_pet
from lib.mapping import from_mapping
from lib.pairing.quality_checks.misaligned_slices import is_body_off, is_diaphragm_off
from lib.types import BoolArray, FloatArray

FORMAT = 2  # increment when the arrays change; 2: canonical voxel order
BODY, MEASURED, TUMOUR = 1, 2, 4  # bits of regions.npy
ARRAYS = ("ct", "pet", "regions")
ORGANS = "organs"  # optional array


@dataclass(frozen=True)
class Preparation:
    """The settings that determine prepared arrays: grid and windows of the recipe."""

    grid: Grid
    windows: Windows
    correct_shift: bool = False  # whether each PET is moved back by its measured shift

    def __post_init__(self) -> None:
        if self.correct_shift and self.grid.slices == "match":
            raise RecipeError(
                "alignment.correct needs grid.slices = resample: match does not interpolate between PET slices, so a "
                "shift along the body cannot be corrected"
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain values; without a correction those of earlier versions, so that arrays keep their digest."""
        plain: dict[str, Any] = {"grid": asdict(self.grid), "windows": asdict(self.windows)}
        return {**plain, "correct_shift": True} if self.correct_shift else plain

    def digest(self) -> str:
        """Return a short hash that changes with every setting that changes the arrays."""
        canonical = json.dumps({"format": FORMAT, **self.as_json()}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PreparedPair:
    """One pair of the index.

    Attributes:
        id: Name of its folder, derived from the two series UIDs.
        shape: (K, R, C) of the arrays, in canonical order: slices toward Superior, rows Posterior, columns Left.
        affine: Affine of the network's grid, see `Geometry`; with `match`, of all CT slices before the selection.
        ct_slices: Index of the CT slice of each prepared slice, counted from the feet.
        largest_offset_mm: Largest distance along the normal from a PET slice to the nearest CT slice.
        source: Fingerprint of the source files.
        preparation: Digest of grid and windows.
        ct_scanner, pet_scanner: Manufacturer and model; empty if the header lacks them or has not been read.
        body_part: BodyPartExamined of the CT, else of the PET; empty if missing.
        tracer: Radiopharmaceutical; empty if missing.
        ct_kernel, contrast_agent, sex, age_years: From the CT's header, see `AcquisitionDetails`.
        ct_pixel_mm: Pixel size of the CT; None in arrays of versions that did not store it.
        metal_ml: Volume above 2500 HU in the CT; None likewise.
        registered: Whether the PET was registered to the CT, because their frames of reference differ.
        translation_mm: Translation of a registered PET's centre (x, y, z); empty if not registered.
        rotation_deg: Rotation of a registered PET.
        shift_mm: Offset of the PET relative to the CT (x, y, z), LPS, at the headers' positions; None for an axis that
            was not measured, and in arrays of versions that did not measure it.
        shift_sd_mm: Standard deviations of `shift_mm`.
        diaphragm_shift_mm: Offset of the diaphragm along z; None if no diaphragm was found.
        diaphragm_slices: Prepared slices that show the diaphragm, in the CT or in the PET.
        is_corrected: Whether the PET was moved back by `shift_mm`.
        organs: Names of the organs in `organs.npy`; empty without that array.
        organs_source: Fingerprint of the files of their label map.
    """

    id: str
    patient_id: str
    study_instance_uid: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...]
    ct_slices: tuple[int, ...]
    largest_offset_mm: float
    source: str
    preparation: str
    ct_scanner: str = ""
    pet_scanner: str = ""
    body_part: str = ""
    tracer: str = ""
    ct_kernel: str = ""
    contrast_agent: str = ""
    sex: str = ""
    age_years: float | None = None
    ct_pixel_mm: float | None = None
    metal_ml: float | None = None
    registered: bool = False
    translation_mm: tuple[float, ...] = ()
    rotation_deg: float = 0.0
    shift_mm: tuple[float | None, ...] = (None, None, None)
    shift_sd_mm: tuple[float | None, ...] = (None, None, None)
    diaphragm_shift_mm: float | None = None
    diaphragm_slices: tuple[int, ...] = ()
    is_corrected: bool = False
    organs: tuple[str, ...] = ()
    organs_source: str = ""

    def geometry(self) -> Geometry:
        """Return the geometry of the prepared slices; valid only if all slices are adjacent."""
        return Geometry(self.shape, np.asarray(self.affine))

    def misaligned_slices(self, *, limit_mm: float) -> tuple[int, ...]:
        """Return the slices misaligned by more than a limit: all if the body is, else those of the diaphragm if it is.

        0 means no limit. For a PET that was moved back, only the remaining shift of the diaphragm counts.
        """
        if not self.is_corrected and is_body_off(self.shift_mm, limit_mm=limit_mm):
            return tuple(range(self.shape[0]))
        diaphragm_mm = self.diaphragm_shift_mm
        if diaphragm_mm is not None and self.is_corrected:
            diaphragm_mm -= self.shift_mm[2] or 0.0
        return self.diaphragm_slices if is_diaphragm_off(diaphragm_mm, limit_mm=limit_mm) else ()


@dataclass(frozen=True, eq=False)
class PairArrays:
    """The memory-mapped arrays of a pair as stored, shape (K, R, C) each; methods return physical units."""

    pair: PreparedPair
    ct: NDArray[Any]
    pet: NDArray[Any]
    regions: NDArray[np.uint8]
    windows: Windows
    stored_organs: LabelArray | None = None

    def ct_unit(self, index: Any = slice(None)) -> FloatArray:
        """Return CT slices in the unit range, float32."""
        return _to_unit(self.ct[index])

    def pet_unit(self, index: Any = slice(None)) -> FloatArray:
        """Return PET slices in the unit range, float32."""
        return _to_unit(self.pet[index])

    def ct_hu(self, index: Any = slice(None)) -> FloatArray:
        """Return CT slices in HU, clipped to the recipe's window, float32."""
        return denormalize_ct(self.ct_unit(index), self.windows)

    def suv_bw(self, index: Any = slice(None)) -> FloatArray:
        """Return PET slices as SUVbw, float32."""
        return denormalize_pet(self.pet_unit(index), self.windows)

    def measured(self, index: Any = slice(None)) -> BoolArray:
        """Return the mask of voxels that the PET scanner measured."""
        return np.asarray((self.regions[index] & MEASURED) > 0)

    def body(self, index: Any = slice(None)) -> BoolArray:
        """Return the mask of measured voxels in the body, inside which metrics are computed."""
        return np.asarray((self.regions[index] & (BODY | MEASURED)) == (BODY | MEASURED))

    def tumour(self, index: Any = slice(None)) -> BoolArray:
        """Return the mask of contoured tumours; all False without contours."""
        return np.asarray((self.regions[index] & TUMOUR) > 0)

    def organs(self, index: Any = slice(None)) -> Organs | None:
        """Return the organs; None where they were not segmented."""
        return None if self.stored_organs is None else Organs(self.stored_organs[index], self.pair.organs)


@dataclass(frozen=True)
class PreparedSet:
    """A folder of prepared pairs."""

    root: Path
    preparation: Preparation
    pairs: tuple[PreparedPair, ...]

    @classmethod
    def open(cls, root: Path) -> PreparedSet:
        """Return the set in a folder; reads the index only.

        Raises:
            PreparedDataError: The index is missing, damaged, or of another format.
        """
        path = root / "index.json"
        if not path.is_file():
            raise PreparedDataError(f"{root}: no index.json, so no prepared arrays", code="not_prepared")
        try:
            index = json.loads(path.read_text())
            if index["format"] != FORMAT:
                raise PreparedDataError(f"{path}: format {index['format']}, expected {FORMAT}; prepare again")
            preparation = from_mapping(Preparation, index["preparation"])
            pairs = tuple(from_mapping(PreparedPair, entry) for entry in index["pairs"])
        except (ValueError, KeyError, TypeError, RecipeError) as error:
            raise PreparedDataError(f"{path}: damaged index ({error}); prepare again") from error
        return cls(root, preparation, pairs)

    def arrays(self, pair: PreparedPair) -> PairArrays:
        """Return the memory-mapped arrays of a pair.

        Raises:
            PreparedDataError: An array is missing, truncated, or has another shape than in the index.
        """
        loaded = {name: self._load(pair, name) for name in (*ARRAYS, *([ORGANS] if pair.organs else []))}
        return PairArrays(
            pair, loaded["ct"], loaded["pet"], loaded["regions"], self.preparation.windows, loaded.get(ORGANS)
        )

    def _load(self, pair: PreparedPair, name: str) -> NDArray[Any]:
        path = self.root / "pairs" / pair.id / f"{name}.npy"
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError) as error:
            raise PreparedDataError(f"{path}: missing or cut off ({error}); prepare again") from error
        if array.shape != pair.shape:
            raise PreparedDataError(f"{path}: shape {array.shape}, expected {pair.shape}; prepare again")
        return array

    def only(self, patients: Iterable[str]) -> PreparedSet:
        """Return the set without the pairs of all other patients, so that nothing can read them."""
        kept = frozenset(patients)
        return replace(self, pairs=tuple(pair for pair in self.pairs if pair.patient_id in kept))

    def patients(self) -> tuple[str, ...]:
        """Return the IDs of all patients, sorted."""
        return tuple(sorted({pair.patient_id for pair in self.pairs}))


def write_index(root: Path, preparation: Preparation, pairs: Iterable[PreparedPair]) -> None:
    """Write `index.json` atomically."""
    ordered = sorted(pairs, key=lambda pair: (pair.patient_id, pair.id))
    index = {"format": FORMAT, "preparation": preparation.as_json(), "pairs": [asdict(pair) for pair in ordered]}
    write_text(root / "index.json", json.dumps(index, indent=1))


def write_entry(folder: Path, entry: PreparedPair) -> None:
    """Write `pair.json` into the folder of a pair, atomically.

    Raises:
        OSError: It cannot be written.
    """
    write_text(folder / "pair.json", json.dumps(asdict(entry)))


def _to_unit(stored: NDArray[Any]) -> FloatArray:
    if stored.dtype == np.uint8:
        return np.asarray(stored, dtype=np.float32) / np.float32(255)
    return np.asarray(stored, dtype=np.float32)
