"""A phantom patient: scan settings, scanned volumes, and ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.phantom.anatomy import Anatomy, random_anatomy
from lib.phantom.scanner import scan_ct, scan_pet
from lib.phantom.tissues import LabelArray, Point, paint

SCAN_CENTRE_Z_MM = -45.0  # below the carina: heart at the centre, hilum above, domes of liver and spleen below
MAX_PATIENTS = 9999
ALLOWED: dict[str, tuple[float, float]] = {
    "slices": (2, 1000),
    "slice_spacing_mm": (0.1, 20),
    "ct_matrix": (32, 1024),
    "ct_pixel_mm": (0.2, 20),
    "pet_matrix": (16, 512),
    "pet_pixel_mm": (0.5, 40),
    "pet_slice_offset_mm": (-100, 100),
    "psf_fwhm_mm": (0, 30),
    "pet_noise_suv": (0, 10),
    "ct_noise_hu": (0, 500),
}


@dataclass(frozen=True)
class PhantomSettings:
    """Scan settings of phantoms.

    Attributes:
        pet_slice_offset_mm: Offset of PET slices from their CT slices, towards the head.
        pet_centre_mm: Centre of the PET's field of view, (x, y) relative to that of the CT.
        psf_fwhm_mm: Resolution of the PET, full width at half maximum of a Gaussian.
        pet_noise_suv: Standard deviation of the noise at SUV 1; proportional to the square root of uptake, with the
            resolution of the PET.
        ct_noise_hu: Standard deviation of the noise.

    Raises:
        InputError: A setting is out of range.
    """

    slices: int = 40
    slice_spacing_mm: float = 3.27
    ct_matrix: int = 256
    ct_pixel_mm: float = 1.6
    pet_matrix: int = 100
    pet_pixel_mm: float = 4.1
    pet_slice_offset_mm: float = 0.0
    pet_centre_mm: tuple[float, float] = (6.0, -4.0)
    psf_fwhm_mm: float = 6.0
    pet_noise_suv: float = 0.06
    ct_noise_hu: float = 12.0

    def __post_init__(self) -> None:
        for name, (low, high) in ALLOWED.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"phantom setting {name} is {value}, expected {low} to {high}")
        for name in ("slices", "ct_matrix", "pet_matrix"):
            if not isinstance(getattr(self, name), int):
                raise InputError(f"phantom setting {name} is {getattr(self, name)}, expected an integer")
        if len(self.pet_centre_mm) != 2 or not np.isfinite(self.pet_centre_mm).all():
            raise InputError(f"phantom setting pet_centre_mm is {self.pet_centre_mm}, expected two lengths in mm")


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """One phantom with its ground truth.

    Attributes:
        ct: Integer HU, -1024 to 3071.
        pet: SUVbw with blur and noise.
        anatomy: The scanned anatomy; `tissues_on` paints it.
        origin_mm: Position of the anatomy's origin, the carina, in patient coordinates.
        dose_bq: Injected activity, `uptake_s` before the start of the PET.
        key: Identifier of this patient among all seeds and settings, from which UIDs are derived.
    """

    number: int
    patient_id: str
    ct: Volume
    pet: Volume
    anatomy: Anatomy
    origin_mm: Point
    dose_bq: float
    uptake_s: int
    key: str

    def tissues_on(self, geometry: Geometry) -> LabelArray:
        """Return the true tissue at each voxel's centre, values of `Tissue`, shape (K, R, C)."""
        return paint(self.anatomy.shapes, geometry, origin_mm=self.origin_mm)


def phantom_patient(number: int, seed: int = 0, settings: PhantomSettings = PhantomSettings()) -> PhantomPatient:
    """Return patient `number` (from 1) of a seed, independent of other patients.

    Raises:
        InputError: The number is not within 1 to 9999, or the seed is negative.
    """
    if not 1 <= number <= MAX_PATIENTS:
        raise InputError(f"phantoms are numbered 1 to {MAX_PATIENTS}, found {number}")
    if seed < 0:
        raise InputError(f"a seed is 0 or above, found {seed}")
    # separate streams, so that the matrix size does not change the patient
    body, session, ct_noise, pet_noise = (np.random.default_rng((seed, number, stream)) for stream in range(4))
    anatomy = random_anatomy(body)
    x, y, z = session.uniform((-6, -6, -900), (6, 6, -100)).round(2).tolist()
    ct_grid, pet_grid = _grids(settings, z + SCAN_CENTRE_Z_MM)
    ct_hu = scan_ct(anatomy, ct_grid, origin_mm=(x, y, z), noise_hu=settings.ct_noise_hu, rng=ct_noise)
    suv_bw = scan_pet(
        anatomy,
        pet_grid,
        origin_mm=(x, y, z),
        psf_fwhm_mm=settings.psf_fwhm_mm,
        noise_suv=settings.pet_noise_suv,
        rng=pet_noise,
    )
    named = " ".join(f"{field.name}={getattr(settings, field.name)}" for field in fields(settings))
    return PhantomPatient(
        number=number,
        patient_id=f"PHANTOM_{number:04d}",
        ct=Volume(ct_hu, ct_grid, Unit.HU),
        pet=Volume(suv_bw, pet_grid, Unit.SUV_BW),
        anatomy=anatomy,
        origin_mm=(x, y, z),
        dose_bq=float(round(anatomy.weight_kg * session.uniform(4.5e6, 5.5e6), -4)),  # about 5 MBq/kg
        uptake_s=int(session.integers(55 * 60, 75 * 60)),
        key=f"seed {seed} patient {number} {named}",
    )


def _grids(settings: PhantomSettings, centre_z_mm: float) -> tuple[Geometry, Geometry]:
    first_mm = centre_z_mm - (settings.slices - 1) / 2 * settings.slice_spacing_mm
    spacing_mm = settings.slice_spacing_mm
    return (
        _axial_grid(settings.slices, settings.ct_matrix, settings.ct_pixel_mm, spacing_mm, (0.0, 0.0, first_mm)),
        _axial_grid(
            settings.slices,
            settings.pet_matrix,
            settings.pet_pixel_mm,
            spacing_mm,
            (*settings.pet_centre_mm, first_mm + settings.pet_slice_offset_mm),
        ),
    )


def _axial_grid(
    slices: int, matrix: int, pixel_mm: float, spacing_mm: float, first_centre_mm: Sequence[float]
) -> Geometry:
    """Return an axial grid of square slices whose first slice is centred at `first_centre_mm`."""
    to_corner_mm = (matrix - 1) / 2 * pixel_mm
    x, y, z = first_centre_mm
    return Geometry.from_dicom(
        (slices, matrix, matrix),
        first_position_mm=[round(p, 4) for p in (x - to_corner_mm, y - to_corner_mm, z)],
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(pixel_mm, pixel_mm),
        slice_spacing_mm=spacing_mm,
    )
