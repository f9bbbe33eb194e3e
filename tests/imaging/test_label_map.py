"""Label maps: names, renumbering, resampling, and values that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import ImageFileError, InputError
from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelMap, Organs, label_map, organ_name
from lib.imaging.resample import organs_on


def grid(shape: tuple[int, int, int], *, spacing_mm: float = 1.0, x_mm: float = 0.0) -> Geometry:
    return Geometry.from_dicom(
        shape, first_position_mm=(x_mm, 0, 0), orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(spacing_mm, spacing_mm), slice_spacing_mm=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("liver", "liver"),
        ("Left Kidney", "kidney_left"),
        ("kidney_left", "kidney_left"),
        ("Lung, upper-lobe (left)", "lung_upper_lobe_left"),
        ("left-right junction", "left_right_junction"),  # no single side
        ("../../etc/passwd", "etc_passwd"),
        ("<script>alert(1)</script>", "script_alert_1_script"),
        ("=cmd|'/C calc'!A0", "cmd_c_calc_a0"),
        ("Röhre", "röhre"),
        ("..", ""),
        ("x" * 100, "x" * 64),
    ],
)
def test_names_of_one_organ_are_equal_and_harmless(written: str, name: str) -> None:
    assert organ_name(written) == name


def test_labels_are_sorted_by_name_and_equal_names_are_one_organ() -> None:
    values = np.array([[[0, 5, 9, 300, 7]]], np.float32)
    found = label_map(values, grid((1, 1, 5)), {5: "Spleen", 300: "liver", 9: "spleen", 8: "absent"}, what="x")
    assert found.organs.names == ("liver", "spleen")
    assert found.organs.labels.tolist() == [[[0, 2, 2, 1, 0]]]
    assert found.note == "labels without a name are ignored: 7"
    assert found.organs.mask("spleen").tolist() == [[[False, True, True, False, False]]]
    assert not found.organs.mask("kidney").any()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.5, "values that are not integers"),
        (np.nan, "values that are not integers"),
        (-1, "values from -1 to 0"),
        (70_000, "values from 0 to 70000"),
        (2, "no voxel of a named label (its values are 2, 1 values have a name)"),
        (0, "no voxel of a named label (all its voxels are 0"),
    ],
)
def test_what_is_no_label_map_is_refused(value: float, message: str) -> None:
    values = np.zeros((2, 1, 2), np.float32)
    values[1, 0, 1] = value
    with pytest.raises(ImageFileError) as caught:
        label_map(values, grid((2, 1, 2)), {1: "liver"}, what="scan.nii.gz")
    assert str(caught.value).startswith("scan.nii.gz: ") and message in str(caught.value)


def test_labels_without_names_and_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="label 2, expected at most the 1 named"):
        Organs(np.full((1, 1, 1), 2, np.uint16), ("liver",))
    with pytest.raises(InputError, match="do not fit a geometry"):
        LabelMap(Organs(np.zeros((1, 1, 2), np.uint16), ()), grid((1, 1, 1)))


def test_another_grid_takes_the_nearest_label_and_nothing_from_outside() -> None:
    organs = Organs(np.array([[[1, 1, 2, 2]]], np.uint16), ("liver", "spleen"))
    coarse = organs_on(LabelMap(organs, grid((1, 1, 4))), grid((1, 1, 4), spacing_mm=2.0, x_mm=0.4))
    # centres at 0.4, 2.4, 4.4 and 6.4 mm; the label map ends at 3.5
    assert coarse.labels.tolist() == [[[1, 2, 0, 0]]] and coarse.names == organs.names
    assert organs_on(LabelMap(organs, grid((1, 1, 4))), grid((1, 1, 4))) is organs
