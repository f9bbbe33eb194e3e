"""The images of the report, read back from PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib.evaluation.report.images import LABEL, draw_comparison, hottest_slice
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.imaging.geometry import Geometry

SHAPE = (5, 30, 40)


def grid(row_mm: float) -> Geometry:
    return Geometry.from_dicom(
        SHAPE,
        first_position_mm=(0, 0, 0),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(row_mm, 2.0),
        slice_spacing_mm=4.0,
    )


def volumes(**changes: Any) -> AlignedVolumes:
    """A trunk with a hot spot in slice 3 of the real PET; the synthetic PET misses it."""
    body = np.zeros(SHAPE, bool)
    body[:, 5:25, 5:35] = True
    real = body.astype(np.float32)
    real[3, 8:12, 10:14] = 9.0
    given: dict[str, Any] = {
        "ct_hu": np.where(body, 40, -1000).astype(np.float32),
        "synthetic_suv": body.astype(np.float32),
        "real_suv": real,
        "body": body,
        "measured": np.ones(SHAPE, bool),
        "geometry": grid(2.0),
    }
    return AlignedVolumes(**(given | changes))


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def panels(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[np.ndarray[Any, Any]]:
    """Return five strips from left to right."""
    return np.array_split(picture, 5, axis=1)


def test_the_hottest_slice_is_found() -> None:
    assert hottest_slice(volumes()) == 3


def test_uptake_outside_the_body_is_ignored() -> None:
    real = volumes().real_suv.copy()
    real[1, :3] = 50.0
    assert hottest_slice(volumes(real_suv=real)) == 3


def test_an_image_is_written_with_content_in_every_panel(tmp_path: Path) -> None:
    path = draw_comparison(volumes(), tmp_path / "new" / "picture.png", title="P1, model tiny", slices=(3,))
    picture = pixels(path)
    assert path == tmp_path / "new" / "picture.png"
    assert picture.shape[1] == 1760  # 16 inches of 110 pixels
    for strip in panels(picture):
        assert (strip.max(axis=2) > 40).mean() > 0.1 and strip.std() > 10


def test_each_external_program_has_a_panel(tmp_path: Path) -> None:
    external = {"a": np.zeros(SHAPE, np.float32), "b": np.full(SHAPE, 9, np.float32)}
    picture = pixels(draw_comparison(volumes(external_suv=external), tmp_path / "p.png", title="", slices=(3,)))
    strips = np.array_split(picture[80:], 7, axis=1)
    assert strips[2].mean() < 40 < 100 < strips[3].mean()  # black, and the brightest colour


def test_ct_is_grey_and_pet_is_coloured(tmp_path: Path) -> None:
    picture = pixels(draw_comparison(volumes(), tmp_path / "p.png", title="", slices=(3,)))
    ct, synthetic = (strip.astype(int) for strip in panels(picture)[:2])
    assert np.ptp(ct[60:], axis=2).max() < 12  # beneath the title
    assert np.ptp(synthetic[60:], axis=2).max() > 40


def test_a_missed_lesion_is_visible_in_the_real_pet_and_in_the_error(tmp_path: Path) -> None:
    missed = pixels(draw_comparison(volumes(), tmp_path / "missed.png", title="", slices=(3,)))
    found = pixels(
        draw_comparison(volumes(synthetic_suv=volumes().real_suv), tmp_path / "found.png", title="", slices=(3,))
    )
    differ = [float((a != b).mean()) for a, b in zip(panels(missed), panels(found), strict=True)]
    assert differ[0] == 0 and differ[2] == 0  # CT and real PET are the same
    assert min(differ[1], differ[3], differ[4]) > 0.001  # synthetic PET, fusion and error are not


@pytest.mark.parametrize(("slices", "rows"), [((), 2), ((0,), 1), ((0, 2, 4), 3)])
def test_a_row_for_each_slice(tmp_path: Path, slices: tuple[int, ...], rows: int) -> None:
    picture = pixels(draw_comparison(volumes(), tmp_path / "p.png", title="", slices=slices))
    assert picture.shape[0] == pytest.approx(110 * (3.0 * 30 / 40 * rows + 1.1), abs=2)


def test_pixels_that_are_not_square_keep_their_aspect_ratio(tmp_path: Path) -> None:
    tall = pixels(draw_comparison(volumes(geometry=grid(4.0)), tmp_path / "p.png", title="", slices=(0,)))
    assert tall.shape[0] == pytest.approx(110 * (3.0 * 30 / 40 * 2 + 1.1), abs=2)


def test_the_label_and_the_attribution_are_shown(tmp_path: Path) -> None:
    assert "NOT FOR DIAGNOSIS" in LABEL and "SYNTHETIC" in LABEL
    plain, noted = (
        pixels(draw_comparison(volumes(), tmp_path / "p.png", title="", note=note, slices=(0,)))
        for note in ("", "example data, CC BY 3.0")
    )
    assert (plain[:60].max(axis=2) > 200).any()  # the label
    assert (plain[-20:] != noted[-20:]).any() and (plain[:60] == noted[:60]).all()


def test_an_air_phantom_and_an_unmeasured_region_can_be_plotted(tmp_path: Path) -> None:
    nothing = np.zeros(SHAPE, np.float32)
    measured = np.zeros(SHAPE, bool)
    measured[2, 0, 0] = True
    empty = volumes(synthetic_suv=nothing, real_suv=nothing, body=np.zeros(SHAPE, bool), measured=measured)
    assert pixels(draw_comparison(empty, tmp_path / "p.png", title="")).any()
