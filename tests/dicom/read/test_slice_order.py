"""Stacks are ordered by ImagePositionPatient along the normal; irregular stacks are refused."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lib.dicom.instance_header import InstanceHeader
from lib.dicom.read.header import header_of
from lib.dicom.read.slice_order import order_stack
from lib.errors import SliceOrderError
from tests.dicom.builders import instance


def headers(count: int = 5, **attributes: Any) -> list[InstanceHeader]:
    return [header_of(instance(k, **attributes), f"{k}.dcm") for k in range(count)]


def moved(header: InstanceHeader, *by: float) -> InstanceHeader:
    assert header.position_mm is not None
    x, y, z = (a + b for a, b in zip(header.position_mm, by, strict=True))
    return replace(header, position_mm=(x, y, z))


def test_slices_in_any_order_form_one_stack() -> None:
    shuffled = headers()
    random.Random(0).shuffle(shuffled)
    stack = order_stack(shuffled)
    assert stack.positions_mm == (100, 103, 106, 109, 112)
    assert [header.sop_instance_uid[-1] for header in stack.headers] == list("12345")


def test_geometry_is_that_of_the_equation_in_the_standard() -> None:
    geometry = order_stack(headers()).geometry
    assert geometry.shape == (5, 6, 8)
    # column 1, row 2, slice 3: x + 1 column step, y + 2 row steps, z + 3 slice steps
    assert geometry.to_world(np.array([[1.0, 2.0, 3.0]])).tolist() == [[-10 + 1.5, -20 + 2 * 2.0, 100 + 9]]


@pytest.mark.parametrize(
    ("orientation", "first_z"),
    [
        ([1, 0, 0, 0, 1, 0], 100),  # supine, normal to the head
        ([-1, 0, 0, 0, -1, 0], 100),  # prone, normal to the head
        ([1, 0, 0, 0, -1, 0], 112),  # normal to the feet: the stack begins at the head
        ([-1, 0, 0, 0, 1, 0], 112),
    ],
)
def test_the_stack_runs_along_the_right_handed_normal(orientation: list[float], first_z: float) -> None:
    stack = order_stack(headers(ImageOrientationPatient=orientation))
    assert stack.geometry.origin_mm[2] == first_z
    assert list(stack.positions_mm) == sorted(stack.positions_mm)
    assert np.linalg.det(stack.geometry.affine[:3, :3]) > 0


def test_slice_thickness_is_ignored() -> None:
    assert order_stack(headers(SliceThickness=3.75, SliceLocation=0)).geometry.spacing_mm == (3.0, 2.0, 1.5)


def test_the_rounding_between_beds_is_tolerated() -> None:
    beds = [moved(header, 0, 0, 0.04 * (k >= 3)) for k, header in enumerate(headers(10))]  # as on a GE Discovery ST
    assert order_stack(beds).geometry.spacing_mm[0] == pytest.approx(3 + 0.04 / 9)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (headers(1), "1 slice, expected at least 2"),
        ([*headers(6)[:3], *headers(6)[4:]], r"gap: no slice between 106.00 and 112.00 mm .* 3.00 mm apart"),
        ([*headers(), moved(headers()[2], 0, 0, 0.001)], "1 of 6 slices have the position of another slice"),
        ([*headers(4), moved(headers(5)[4], 0, 0, 1.0)], r"uneven spacing: slices are 3.00 to 4.00 mm apart"),
        ([moved(header, 0, 0.6 * k, 0) for k, header in enumerate(headers())], "gantry tilt of 11.3 degrees"),
        ([*headers(4), moved(headers(5)[4], 7.0, 0, 0)], "shifted sideways relative to each other by up to 7.0 mm"),
        ([*headers(4), *headers(5, Rows=7)[4:]], "slices of 6 x 8 and of 7 x 8 pixels"),
        ([*headers(4), *headers(5, PixelSpacing=[2, 2])[4:]], r"pixels of \(2.0, 1.5\) mm and of \(2.0, 2.0\) mm"),
        ([*headers(4), *headers(5, ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6])[4:]], "slices of orientation"),
        (headers(ImagePositionPatient=None), "ImagePositionPatient is missing; slices have no position"),
        (headers(PixelSpacing=None), "PixelSpacing is missing"),
        (headers(ImageOrientationPatient=None), "ImageOrientationPatient is missing"),
        (headers(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not two perpendicular unit vectors"),
    ],
)  # fmt: skip
def test_irregular_stack_is_refused(broken: list[InstanceHeader], message: str) -> None:
    with pytest.raises(SliceOrderError, match=message):
        order_stack(broken)


def test_rounded_direction_cosines_are_accepted() -> None:
    tilted = [0.9998, 0.0175, 0, -0.0175, 0.9998, 0]  # 1 degree, four digits
    assert order_stack(headers(ImageOrientationPatient=tilted)).geometry.spacing_mm[0] == pytest.approx(3.0, rel=1e-3)
