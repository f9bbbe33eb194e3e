"""Reading, selection and rasterisation of regions, with voxels counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from lib.dicom.read.volume import read_ct
from lib.dicom.rtstruct import Contour, find_contours, named_contour, rasterise, read_contours
from lib.dicom.scan.scan import ScanReport, scan_folder
from lib.errors import DicomError, UnsupportedSeriesError
from lib.imaging.body import body_mask
from lib.imaging.geometry import Geometry
from tests.dicom.builders import FRAME, instance, write_series
from tests.dicom.rtstruct_files import Polygon, contour_item, item, write_rtstruct

SLICES, ROWS, COLUMNS = 4, 6, 8
# x = -10 + 1.5 c, y = -20 + 2 r, z = 100 + 3 k: the grid of the builders' series
GRID = Geometry.from_dicom(
    (SLICES, ROWS, COLUMNS),
    first_position_mm=(-10, -20, 100),
    orientation=(1, 0, 0, 0, 1, 0),
    pixel_spacing_mm=(2.0, 1.5),
    slice_spacing_mm=3.0,
)


def box(columns: tuple[float, float], rows: tuple[float, float], *, z: float) -> Polygon:
    """Return a rectangle between voxel centres (columns and rows) at a height in mm."""
    (c0, c1), (r0, r1) = columns, rows
    return [(-10 + 1.5 * c, -20 + 2 * r, z) for c, r in ((c0, r0), (c1, r0), (c1, r1), (c0, r1))]


def contour(*polygons: Polygon, frame: str = FRAME, name: str = "GTV", kind: str = "") -> Contour:
    return Contour(name, kind, frame, tuple(np.array(polygon, float) for polygon in polygons))


def inside(mask: np.ndarray) -> set[tuple[int, int, int]]:
    return {(int(k), int(r), int(c)) for k, r, c in np.argwhere(mask)}


def test_square_contains_voxels_with_enclosed_centre() -> None:
    mask = rasterise(contour(box((1.5, 3.5), (0.5, 2.5), z=103)), GRID, frame_of_reference_uid=FRAME)
    assert inside(mask) == {(1, 1, 2), (1, 1, 3), (1, 2, 2), (1, 2, 3)}


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["outer first", "hole first"])
def test_a_contour_within_a_contour_is_a_hole(order: slice) -> None:
    polygons = [box((0.5, 5.5), (0.5, 4.5), z=100), box((1.5, 4.5), (1.5, 3.5), z=100)][order]
    mask = rasterise(contour(*polygons), GRID, frame_of_reference_uid=FRAME)
    ring = {(0, r, c) for r in (1, 2, 3, 4) for c in (1, 2, 3, 4, 5)} - {(0, r, c) for r in (2, 3) for c in (2, 3, 4)}
    assert inside(mask) == ring


def test_a_keyhole_drawn_in_one_stroke_is_a_hole() -> None:
    outer, inner = list(box((0.5, 5.5), (0.5, 4.5), z=100)), list(box((1.5, 4.5), (1.5, 3.5), z=100))
    stroke = [*outer, outer[0], *reversed(inner), inner[-1]]  # out, over the channel, round the hole, back
    mask = rasterise(contour(stroke), GRID, frame_of_reference_uid=FRAME)
    assert not mask[0, 2:4, 2:5].any()
    assert mask[0, 4, 1:6].all()


def test_two_regions_of_one_slice_are_combined() -> None:
    islands = contour(box((0.5, 1.5), (0.5, 1.5), z=106), box((4.5, 5.5), (3.5, 4.5), z=106))
    mask = rasterise(islands, GRID, frame_of_reference_uid=FRAME)
    assert inside(mask) == {(2, 1, 1), (2, 4, 5)}


@pytest.mark.parametrize(
    ("heights", "slices"),
    [
        ((100.0, 103.0), {0, 1}),
        ((101.4,), {0}),  # nearer to slice 0 than to slice 1
        ((101.6,), {1}),
        ((100.0, 106.0), {0, 2}),  # slices between contours stay empty
        ((100.0, 101.0), {0}),  # planes closer than the slices: the nearest is used, they do not cancel out
        ((90.0, 100.0), {0}),  # below the first slice
    ],
)
def test_contour_planes_are_assigned_to_the_nearest_slice(heights: Sequence[float], slices: set[int]) -> None:
    mask = rasterise(contour(*(box((0.5, 2.5), (0.5, 2.5), z=z) for z in heights)), GRID, frame_of_reference_uid=FRAME)
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == slices
    assert mask.sum() == 4 * len(slices)


def test_slab_has_the_same_voxels_as_the_volume() -> None:
    tumour = contour(*(box((0.5, 2.5 + k), (0.5, 2.5), z=100 + 3 * k) for k in range(SLICES)))
    full = rasterise(tumour, GRID, frame_of_reference_uid=FRAME)
    slab = rasterise(tumour, GRID.slab(slice(1, 3)), frame_of_reference_uid=FRAME)
    assert np.array_equal(slab, full[1:3])


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (contour(box((0, 1), (0, 1), z=100), frame="9.9"), "frame of reference 9.9, expected 1.2.3.1.9"),
        (contour(), "'GTV' is empty"),
        (contour(box((0.5, 2.5), (0.5, 2.5), z=500)), "covers no voxel"),
        (contour([(-10, -20, 100), (-5, -20, 103), (-5, -15, 100)]), "spans 3.0 mm across the slices"),
    ],
)
def test_region_that_cannot_be_rasterised_is_refused(region: Contour, message: str) -> None:
    with pytest.raises(DicomError, match=message):
        rasterise(region, GRID, frame_of_reference_uid=FRAME)


def test_file_has_regions_with_name_type_and_polygons(tmp_path: Path) -> None:
    square = box((0.5, 2.5), (0.5, 2.5), z=103)
    path = write_rtstruct(
        tmp_path / "RS.dcm",
        {"Lung_L": [], "Mass": [contour_item(square), contour_item(square[:1], kind="POINT")]},
        kinds=["ORGAN", "GTV"],
    )
    lung, mass = read_contours(path)
    assert (lung.name, lung.interpreted_type, lung.polygons_mm, lung.is_tumour) == ("Lung_L", "ORGAN", (), False)
    assert (mass.name, mass.frame_of_reference_uid, mass.is_tumour) == ("Mass", FRAME, True)
    assert len(mass.polygons_mm) == 1  # a point has no inside
    assert np.allclose(mass.polygons_mm[0], square)


@pytest.mark.parametrize(
    ("name", "is_tumour"),
    [("GTV_Mass_CT", True), ("gtv1", True), ("iGTV", True), ("Primary tumor", True), ("Lesion 2", True),
     ("CTV", False), ("Heart", False), ("", False)],
)  # fmt: skip
def test_usual_names_of_tumours(name: str, is_tumour: bool) -> None:
    assert contour(name=name).is_tumour == is_tumour


def test_region_is_found_by_name() -> None:
    regions = [contour(name="GTV"), contour(name="Heart")]
    assert named_contour(regions, "gtv") is regions[0]
    with pytest.raises(DicomError, match=r"no region is named 'Liver'; regions of the study: GTV, Heart"):
        named_contour(regions, "Liver")


def test_other_files_are_refused(tmp_path: Path) -> None:
    instance(0).save_as(tmp_path / "ct.dcm", write_like_original=False)
    with pytest.raises(UnsupportedSeriesError, match=r"ct\.dcm: CT Image Storage, expected RT Structure Set"):
        read_contours(tmp_path / "ct.dcm")
    (tmp_path / "invalid.dcm").write_bytes(b"no DICOM at all")
    with pytest.raises(DicomError, match=r"invalid\.dcm: damaged"):
        read_contours(tmp_path / "invalid.dcm")
    with pytest.raises(DicomError, match=r"missing\.dcm: cannot be opened"):
        read_contours(tmp_path / "missing.dcm")


@pytest.mark.parametrize("numbers", [["1", "2", "3"], ["1", "2", "3", "4"], [""]])
def test_damaged_contour_is_refused(tmp_path: Path, numbers: list[str]) -> None:
    damaged = item(ContourGeometricType="CLOSED_PLANAR", ContourData=numbers)
    path = write_rtstruct(tmp_path / "RS.dcm", {"GTV": [damaged]})
    with pytest.raises(DicomError, match="damaged RT Structure Set"):
        read_contours(path)


def test_the_contours_of_a_ct_are_those_of_its_study_in_its_frame_of_reference(tmp_path: Path) -> None:
    write_series(tmp_path / "CT")
    square = contour_item(box((0.5, 2.5), (0.5, 2.5), z=103))
    write_rtstruct(tmp_path / "RT" / "1.dcm", {"GTV": [square]})
    write_rtstruct(
        tmp_path / "RT" / "2.dcm", {"GTV on PET": [square]}, frame="9.9", SOPInstanceUID="7.2", SeriesInstanceUID="7"
    )
    write_rtstruct(
        tmp_path / "RT" / "3.dcm", {"elsewhere": [square]}, StudyInstanceUID="8", SOPInstanceUID="8.2",
        SeriesInstanceUID="8.1",
    )  # fmt: skip
    report = scan_folder(tmp_path)
    (ct,) = report.usable("CT")
    assert [found.name for found in find_contours(report, ct.series)] == ["GTV"]


@pytest.fixture(scope="module")
def sts(sts_folder: Path) -> ScanReport:
    return scan_folder(sts_folder)


def test_every_real_tumour_fills_voxels(sts: ScanReport) -> None:
    litres = []
    for found in sts.usable("CT"):
        (mass,) = find_contours(sts, found.series)
        assert mass.name == "GTV_Mass_CT"
        assert mass.is_tumour
        assert found.geometry is not None
        coarse = found.geometry.with_pixels(*(n // 2 for n in found.geometry.shape[1:]))
        mask = rasterise(mass, coarse, frame_of_reference_uid=found.series.frame_of_reference_uid)
        litres.append(mask.sum() * np.prod(coarse.spacing_mm) / 1e6)
        # the studies were cropped 5 cm around the tumour: 15 slices of 3.27 mm, at either end unless the scan ends
        assert mask.any(axis=(1, 2)).sum() <= found.geometry.shape[0] - 15
    assert len(litres) == 36
    assert min(litres) > 0.01  # soft-tissue sarcomas: from a plum ...
    assert max(litres) < 1.5  # ... to a melon


@pytest.mark.parametrize("patient", ["STS_002", "STS_019"])
def test_real_tumour_is_in_the_body_and_agrees_with_matplotlib(sts_folder: Path, patient: str) -> None:
    report = scan_folder(sts_folder / patient)
    (found,) = report.usable("CT")
    ct = read_ct(found.series)
    (mass,) = find_contours(report, found.series)
    mask = rasterise(mass, ct.geometry, frame_of_reference_uid=found.series.frame_of_reference_uid)
    body = body_mask(ct)
    k, r, c = np.argwhere(mask).mean(axis=0).round().astype(int)
    assert body[k, r, c]
    assert (mask & body).sum() / mask.sum() > 0.98

    rows, columns = np.indices(mask.shape[1:])
    centres = np.column_stack((columns.ravel(), rows.ravel()))
    for polygon_mm in mass.polygons_mm:
        voxels = ct.geometry.to_voxel(polygon_mm)
        expected = Outline(voxels[:, :2]).contains_points(centres).reshape(mask.shape[1:])
        differ = mask[round(voxels[0, 2])] ^ expected
        assert differ.sum() <= 0.02 * expected.sum()  # centres on the line itself may go either way
