"""Random anatomy of a phantom: a chest of typical size, its lesions and its uptake.

The origin is the carina, x to the left, y to the back, z to the head, in mm. From the head down follow the great
vessels, the hilum, the heart and the domes of liver and spleen. The model of ellipsoids serves software tests and is
far too simple for conclusions about patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib.phantom.tissues import TUBE_MM, TYPICAL, Bands, Ellipsoid, Point, Tissue

SOFT_PARTS = frozenset({Tissue.MEDIASTINUM, Tissue.LUNG})
VESSELS_IN_EACH_LUNG = 30
LESION_Z_MM = (-85.0, 5.0)  # within the range of the default scan


@dataclass(frozen=True)
class Lesion:
    """A sphere of high uptake, which the CT shows only if `visible_on_ct`."""

    centre_mm: Point
    radius_mm: float
    suv_bw: float
    visible_on_ct: bool


@dataclass(frozen=True)
class Wave:
    """A smooth variation of uptake through the body: amplitude x cos(k . r + phase)."""

    per_mm: Point
    phase: float
    amplitude: float


@dataclass(frozen=True)
class Anatomy:
    """Solids, uptake and lesions of one patient, relative to the carina.

    Attributes:
        shapes: Solids in painting order, including visible lesions.
        suv_bw: Uptake by tissue.
        half_depth_mm: Half depth of the chest, carina to skin, by which density and uptake of the lung increase
            towards the back.
    """

    shapes: tuple[Ellipsoid, ...]
    suv_bw: dict[Tissue, float]
    lesions: tuple[Lesion, ...]
    waves: tuple[Wave, ...]
    half_depth_mm: float
    sex: str
    weight_kg: float
    height_m: float


@dataclass(frozen=True)
class _Chest:
    """Sizes in mm that determine all other sizes."""

    width: float  # half width and half depth of the skin
    depth: float
    fat: float  # thickness below the skin
    cage_width: float  # half width and half depth of the outer rib cage
    cage_depth: float
    lung_height: float  # half the height of a lung
    dome_z: float  # top of the liver
    heart: float  # scale of the heart

    @property
    def cavity(self) -> tuple[float, float]:
        """Half width and half depth of the thoracic cavity."""
        return self.cage_width - 9, self.cage_depth - 9


def random_anatomy(rng: np.random.Generator) -> Anatomy:
    """Return a random patient; equal states of `rng` give equal patients."""
    chest, sex = _random_chest(rng), str(rng.choice(["F", "M"]))
    lungs = _lungs(chest)
    shapes = [*_wall(chest, sex), *lungs, *_lung_vessels(rng, chest)]
    shapes += [*_mediastinum(rng, chest), *_spine(chest), *_domes(rng, chest)]
    lesions = _random_lesions(rng, chest, lungs)
    shapes += [Ellipsoid(Tissue.NODULE, x.centre_mm, (x.radius_mm,) * 3) for x in lesions if x.visible_on_ct]
    return Anatomy(
        shapes=tuple(shapes),
        suv_bw=_random_uptake(rng),
        lesions=lesions,
        waves=_random_waves(rng),
        half_depth_mm=chest.depth,
        sex=sex,
        # a chest with half axes of 165 x 110 mm corresponds to about 75 kg
        weight_kg=round(0.0041 * chest.width * chest.depth * rng.uniform(0.94, 1.06), 1),
        height_m=round(float(rng.uniform(1.55, 1.75) + (0.1 if sex == "M" else 0)), 2),
    )


def _random_chest(rng: np.random.Generator) -> _Chest:
    width = rng.uniform(152, 183)
    depth = width * rng.uniform(0.63, 0.71)
    fat, muscle = rng.uniform(6, 24), rng.uniform(11, 17)
    return _Chest(
        width=width,
        depth=depth,
        fat=fat,
        cage_width=width - fat - muscle,
        cage_depth=depth - 0.8 * fat - muscle,
        lung_height=rng.uniform(110, 135),
        dome_z=rng.uniform(-95, -65),
        heart=rng.uniform(0.88, 1.12),
    )


def _wall(chest: _Chest, sex: str) -> list[Ellipsoid]:
    """Return table, skin and fat, breasts, muscle, ribs, and the thoracic cavity."""
    fat, on_table = chest.fat, (0.0, chest.depth + 9, 0.0)
    cage = (chest.cage_width, chest.cage_depth, TUBE_MM)
    sternum, in_front = (0.0, -3 - chest.cage_depth, 0.0), frozenset({Tissue.RIB, Tissue.MUSCLE})
    breasts = []
    for side in (-1, 1) if sex == "F" else ():
        centre = (side * 0.45 * chest.width, -0.86 * chest.depth, -45.0)
        breasts.append(Ellipsoid(Tissue.FAT, centre, (52, 38, 50), within=frozenset({Tissue.AIR, Tissue.FAT})))
        breasts.append(Ellipsoid(Tissue.GLAND, centre, (30, 25, 28), within=frozenset({Tissue.FAT})))
    return [
        Ellipsoid(Tissue.TABLE, on_table, (200, 5, TUBE_MM), power=8),
        Ellipsoid(Tissue.FAT, (0, 0, -40), (chest.width, chest.depth, 900), power=2.4),
        *breasts,
        Ellipsoid(Tissue.MUSCLE, (0, 0, -40), (chest.width - fat, chest.depth - 0.8 * fat, 900), power=2.4),
        Ellipsoid(Tissue.RIB, (0, -3, 0), cage, power=2.2, bands=Bands(26, 10, 0.5)),
        Ellipsoid(Tissue.MEDIASTINUM, (0, -3, 0), (*chest.cavity, TUBE_MM), power=2.2),
        Ellipsoid(Tissue.CORTEX, sternum, (19, 7, TUBE_MM), within=in_front),
        Ellipsoid(Tissue.MARROW, sternum, (16, 4.5, TUBE_MM), within=frozenset({Tissue.CORTEX})),
    ]


def _lungs(chest: _Chest) -> list[Ellipsoid]:
    width, depth = chest.cavity
    return [
        Ellipsoid(
            Tissue.LUNG,
            (middle * width, -3, -22),
            (half * width, 0.96 * depth, chest.lung_height),
            power=2.3,
            within=frozenset({Tissue.MEDIASTINUM}),
        )
        for middle, half in ((-0.52, 0.47), (0.54, 0.45))
    ]


def _lung_vessels(rng: np.random.Generator, chest: _Chest) -> list[Ellipsoid]:
    width, depth = chest.cavity
    vessels = []
    for side in (-1, 1):
        hilum = np.array([side * 0.28 * width, 4.0, -18.0])
        for _ in range(VESSELS_IN_EACH_LUNG):
            x, y, z = rng.uniform((0.3, -0.9, -125), (0.95, 0.9, 85))
            end = np.array([side * x * width, y * depth, z])
            half = float(np.linalg.norm(end - hilum)) / 2
            radius = rng.uniform(1.2, 2.6)
            centre = (hilum + end) / 2
            axes = _frame_along(end - hilum)
            vessels.append(
                Ellipsoid(Tissue.BLOOD, _point(centre), (half, radius, radius), axes, within=frozenset({Tissue.LUNG}))
            )
    return vessels


def _mediastinum(rng: np.random.Generator, chest: _Chest) -> list[Ellipsoid]:
    """Return heart, great vessels, airways and oesophagus, painted over lungs and fat."""
    long_axis = _frame_along(np.array([0.8, -0.55, -0.25]))  # the heart's long axis: left, forward, down
    s = chest.heart
    ventricle = (float(44 + rng.uniform(-5, 5)), -14.0, -66.0)
    solids = [
        Ellipsoid(Tissue.BLOOD, (20, -14, -58), (56 * s, 38 * s, 42 * s), long_axis),
        Ellipsoid(Tissue.MYOCARDIUM, ventricle, (40 * s, 29 * s, 31 * s), long_axis),
        Ellipsoid(Tissue.BLOOD, ventricle, (29 * s, 18 * s, 20 * s), long_axis),
        Ellipsoid(Tissue.BLOOD, (-12, -20, 5), (15, 15, 48)),  # ascending aorta
        Ellipsoid(Tissue.BLOOD, (6, 6, 42), (24, 38, 14), _frame_along(np.array([0.5, -0.85, 0.0]))),  # arch
        Ellipsoid(Tissue.BLOOD, (24, 36, -150), (12, 12, 190)),  # descending aorta
        Ellipsoid(Tissue.BLOOD, (-30, -12, 40), (9, 9, 80)),  # superior vena cava
        Ellipsoid(Tissue.BLOOD, (15, -26, -18), (16, 14, 20)),  # pulmonary trunk and arteries
        Ellipsoid(Tissue.BLOOD, (-22, 2, -20), (34, 10, 10)),
        Ellipsoid(Tissue.BLOOD, (34, 4, -12), (26, 10, 10)),
        Ellipsoid(Tissue.OESOPHAGUS, (6, 24, 0), (8, 6, TUBE_MM)),
        Ellipsoid(Tissue.AIRWAY, (0, 10, 150), (9, 8, 150)),  # trachea, then the main bronchi
        Ellipsoid(Tissue.AIRWAY, (-17, 12, -10), (24, 6.5, 6.5), _frame_along(np.array([-0.85, 0.0, -0.5]))),
        Ellipsoid(Tissue.AIRWAY, (21, 12, -10), (27, 6, 6), _frame_along(np.array([0.92, 0.0, -0.4]))),
    ]
    return [replace(solid, within=SOFT_PARTS | {Tissue.BLOOD, Tissue.MYOCARDIUM}) for solid in solids]


def _spine(chest: _Chest) -> list[Ellipsoid]:
    y = chest.cavity[1] - 17
    return [
        Ellipsoid(Tissue.CORTEX, (0, y + 20, 0), (17, 15, TUBE_MM)),
        Ellipsoid(Tissue.CORTEX, (0, y + 36, 0), (4, 12, TUBE_MM), bands=Bands(25, 17)),
        Ellipsoid(Tissue.CORTEX, (0, y, 0), (20, 16, TUBE_MM)),
        Ellipsoid(Tissue.MARROW, (0, y, 0), (18, 14, TUBE_MM)),
        Ellipsoid(Tissue.DISC, (0, y, 0), (20, 16, TUBE_MM), bands=Bands(25, 6)),
        Ellipsoid(Tissue.CORD, (0, y + 22, 0), (9, 8, TUBE_MM)),
    ]


def _domes(rng: np.random.Generator, chest: _Chest) -> list[Ellipsoid]:
    """Return liver and spleen below their domes, within the cavity."""
    height, lower = rng.uniform(72, 88), rng.uniform(8, 22)
    width, depth = chest.cavity
    liver = (-0.36 * width, -6, chest.dome_z - height)
    spleen = (0.58 * width, 12, chest.dome_z - lower - 60)
    return [
        Ellipsoid(Tissue.LIVER, liver, (0.80 * width, 0.98 * depth, height), within=SOFT_PARTS),
        Ellipsoid(Tissue.SPLEEN, spleen, (0.42 * width, 0.78 * depth, 60), within=SOFT_PARTS),
    ]


def _random_lesions(rng: np.random.Generator, chest: _Chest, lungs: list[Ellipsoid]) -> tuple[Lesion, ...]:
    lesions = []
    lowest_mm = max(LESION_Z_MM[0], chest.dome_z + 25)
    for _ in range(rng.integers(1, 4)):
        lung = lungs[rng.integers(2)]
        (x, y, _), (width, depth, _) = lung.centre_mm, lung.semi_axes_mm
        # lateral of the lung's centre, away from the heart
        centre = (x + np.sign(x) * rng.uniform(0, 0.6) * width, y + rng.uniform(-0.6, 0.6) * depth)
        z = rng.uniform(lowest_mm, LESION_Z_MM[1])
        lesions.append(_lesion(rng, _point(np.array([*centre, z])), largest_mm=16, visible_on_ct=True))
    for _ in range(rng.integers(1, 3)):
        centre_mm = _point(rng.uniform((-22, -2, -30), (22, 22, 5)))  # in vessels and fat below the carina
        lesions.append(_lesion(rng, centre_mm, largest_mm=9, visible_on_ct=False))
    return tuple(lesions)


def _lesion(rng: np.random.Generator, centre_mm: Point, *, largest_mm: float, visible_on_ct: bool) -> Lesion:
    return Lesion(centre_mm, float(rng.uniform(5, largest_mm)), float(rng.uniform(3, 12)), visible_on_ct)


def _random_uptake(rng: np.random.Generator) -> dict[Tissue, float]:
    patient = rng.lognormal(0, 0.08)
    suv_bw = {tissue: suv * patient * rng.lognormal(0, 0.06) for tissue, (_, suv) in TYPICAL.items()}
    suv_bw[Tissue.MYOCARDIUM] = float(np.exp(rng.uniform(np.log(1), np.log(8))))  # depends on fasting, not on density
    return {tissue: float(suv) for tissue, suv in suv_bw.items()}


def _random_waves(rng: np.random.Generator) -> tuple[Wave, ...]:
    waves = []
    for _ in range(4):
        direction = rng.normal(size=3)
        per_mm = direction / np.linalg.norm(direction) * 2 * np.pi / rng.uniform(90, 220)
        waves.append(Wave(_point(per_mm), float(rng.uniform(0, 2 * np.pi)), 0.03))
    return tuple(waves)


def _frame_along(direction: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[Point, Point, Point]:
    """Return three orthonormal vectors, the first along `direction`."""
    first = direction / np.linalg.norm(direction)
    second = np.cross((0.0, 0.0, 1.0), first)
    second = second / np.linalg.norm(second)
    return _point(first), _point(second), _point(np.cross(first, second))


def _point(vector: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Point:
    return float(vector[0]), float(vector[1]), float(vector[2])
