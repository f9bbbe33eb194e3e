"""Comparison with a real PET: metrics worked by hand, another grid, segments, and nodes with the results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer.util
from conftest import slab_affine, volume_node
from CT2PETLib.client.training import CurvePoint
from CT2PETLib.scene import comparison, metrics, node_attributes, resampling, tables, volume

import slicer

ALL = np.ones((1, 4, 4), dtype=bool)


def test_metrics_worked_by_hand() -> None:
    # off by +1 in eight voxels and by -3 in eight: MAE 2, mean square (1 + 9) / 2 = 5, bias -1
    real = np.tile(np.array([2.0, 6.0], dtype=np.float32), 8).reshape(1, 4, 4)
    synthetic = np.tile(np.array([3.0, 3.0], dtype=np.float32), 8).reshape(1, 4, 4)
    result = metrics.region_metrics(synthetic, real, ALL, region="all")
    assert (result.voxels, result.mae_suv, result.bias_suv) == (16, 2.0, -1.0)
    assert result.rmse_suv == pytest.approx(5**0.5)
    assert result.psnr_db == pytest.approx(10 * np.log10(100 / 5))
    assert np.isnan(result.correlation)  # the synthetic one is constant


@pytest.mark.parametrize(("slope", "expected"), [(0.5, 1.0), (-2.0, -1.0)])
def test_correlation_of_a_line(slope: float, expected: float) -> None:
    real = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    assert metrics.region_metrics(slope * real + 1, real, ALL, region="").correlation == pytest.approx(expected)


def test_nan_voxels_are_ignored() -> None:
    real = np.full((1, 4, 4), 2.0, dtype=np.float32)
    real[0, 0] = np.nan
    assert metrics.region_metrics(np.full((1, 4, 4), 3.0, dtype=np.float32), real, ALL, region="").voxels == 12


def test_body_mask_has_no_holes() -> None:
    ct = np.full((1, 9, 9), -1000.0)
    ct[0, 2:7, 2:7] = 40.0
    ct[0, 4, 4] = -900.0  # a lung
    expected = np.zeros((1, 9, 9), dtype=bool)
    expected[0, 2:7, 2:7] = True
    assert np.array_equal(resampling.body_mask(ct), expected)


def test_air_connected_around_a_corner_is_outside() -> None:
    ct = np.full((1, 7, 7), -1000.0)
    for row, column in ((1, slice(1, 6)), (5, slice(1, 6)), (slice(1, 6), 1)):
        ct[0, row, column] = 40.0  # a C that is open to the right
    assert not resampling.body_mask(ct)[0, 3, 3]


def test_resampling_to_the_same_grid_is_identity() -> None:
    array = np.random.default_rng(1).random((3, 5, 4), dtype=np.float32)
    again = resampling.resample(array, ijk_to_ras=np.eye(4), target_ijk_to_ras=np.eye(4), shape=array.shape)
    assert np.abs(again - array).max() < 1e-6


def test_resampling_is_linear_inside_and_nan_outside() -> None:
    array = np.arange(4, dtype=np.float32).reshape(1, 1, 4) * 10
    target = np.diag([0.5, 1.0, 1.0, 1.0])
    line = resampling.resample(
        np.repeat(np.repeat(array, 2, 0), 2, 1), ijk_to_ras=np.eye(4), target_ijk_to_ras=target, shape=(2, 2, 12)
    )[0, 0]
    assert line[:7] == pytest.approx([0, 5, 10, 15, 20, 25, 30])
    assert np.isnan(line[8:]).all()


@pytest.fixture
def synthetic(scene: Any, ct: Any) -> Any:
    """Return a synthetic PET of slices 0 to 7: 1 SUV in the body, 4 in the hot box."""
    node = volume.make_pet_node(scene, ct, model="cascade3")
    hu = volume.voxels(ct)
    suv = np.where(hu > 60, 4.0, np.where(hu > 0, 1.0, 0.0)).astype(np.float32)
    volume.fill_slab(node, suv[:8], slab_affine(ct, 0))
    return node


@pytest.fixture
def real(scene: Any, ct: Any) -> Any:
    """Return the real PET on the CT's grid: 1.5 SUV in the body, 6 in the hot box."""
    hu = volume.voxels(ct)
    suv = np.where(hu > 60, 6.0, np.where(hu > 0, 1.5, 0.0)).astype(np.float32)
    node = volume_node(scene, suv, volume.ijk_to_ras(ct), "PET")
    volume.declare_suv(node)
    return node


def test_only_present_slices_are_compared(ct: Any, synthetic: Any, real: Any) -> None:
    result = comparison.compute(comparison.gather(ct=ct, synthetic=synthetic, real=real))
    body, hot = result.rows
    # eight slices of a body of 16 x 14 voxels; three of them hold a hot box of 4 x 4
    assert body.voxels == 8 * 16 * 14
    assert body.mae_suv == pytest.approx((0.5 * (8 * 224 - 48) + 2 * 48) / (8 * 224))
    assert (hot.voxels, hot.mae_suv, hot.bias_suv) == (48, pytest.approx(2.0), pytest.approx(-2.0))
    assert not result.difference_suv[8:].any()


def test_real_pet_on_another_grid_gives_the_same_metrics(scene: Any, ct: Any, synthetic: Any, real: Any) -> None:
    # the same voxels, with the columns counted from the other end and a margin of one voxel all round
    array = np.pad(volume.voxels(real), 1)[:, :, ::-1]
    matrix = volume.ijk_to_ras(real)
    shift = np.eye(4)
    shift[:3, 3] = [array.shape[2] - 2, -1, -1]
    node = volume_node(scene, np.ascontiguousarray(array), matrix @ shift @ np.diag([-1.0, 1, 1, 1]), "PET own grid")
    volume.declare_suv(node)
    one = comparison.compute(comparison.gather(ct=ct, synthetic=synthetic, real=real)).rows
    other = comparison.compute(comparison.gather(ct=ct, synthetic=synthetic, real=node)).rows
    assert [row.mae_suv for row in other] == pytest.approx([row.mae_suv for row in one], abs=1e-4)


def test_real_pet_without_suv_units_is_refused(scene: Any, ct: Any, synthetic: Any, real: Any) -> None:
    node = volume_node(scene, volume.voxels(real).copy(), volume.ijk_to_ras(real), "counts")
    with pytest.raises(volume.SceneError, match="counts: the units are not SUVbw"):
        comparison.gather(ct=ct, synthetic=synthetic, real=node)


def test_empty_synthetic_pet_is_refused(scene: Any, ct: Any, real: Any) -> None:
    with pytest.raises(volume.SceneError, match="no slice is synthesised yet"):
        comparison.gather(ct=ct, synthetic=volume.make_pet_node(scene, ct, model="unet"), real=real)


def test_pets_without_overlap_are_refused(ct: Any, synthetic: Any, real: Any) -> None:
    moved = volume.ijk_to_ras(real)
    moved[:3, 3] += 5000
    real.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(moved))
    with pytest.raises(volume.SceneError, match="no part of the body in common"):
        comparison.compute(comparison.gather(ct=ct, synthetic=synthetic, real=real))


def test_different_transforms_are_refused(scene: Any, ct: Any, synthetic: Any, real: Any) -> None:
    real.SetAndObserveTransformNodeID(scene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())
    with pytest.raises(volume.SceneError, match="different parent transforms"):
        comparison.gather(ct=ct, synthetic=synthetic, real=real)


def test_difference_map_is_labelled_and_in_suv(scene: Any, ct: Any, synthetic: Any, real: Any) -> None:
    result = comparison.compute(comparison.gather(ct=ct, synthetic=synthetic, real=real))
    node = comparison.show_difference(scene, ct, synthetic, result)
    assert volume.voxels(node)[4, 9, 8] == pytest.approx(-2.0)
    assert node.GetAttribute(node_attributes.ROLE) == "synthetic minus real PET"
    assert (node.GetDisplayNode().GetWindowLevelMin(), node.GetDisplayNode().GetWindowLevelMax()) == (-4.0, 4.0)
    assert comparison.show_difference(scene, ct, synthetic, result) is node


@pytest.mark.parametrize(("index", "rgb"), [(0, (0, 0, 1)), (255, (1, 0, 0))])
def test_underestimation_is_blue_and_overestimation_red(
    scene: Any, ct: Any, synthetic: Any, real: Any, index: int, rgb: tuple[int, int, int]
) -> None:
    result = comparison.compute(comparison.gather(ct=ct, synthetic=synthetic, real=real))
    colours = comparison.show_difference(scene, ct, synthetic, result).GetDisplayNode().GetColorNode()
    colour = [0.0] * 4
    colours.GetColor(index, colour)
    assert colour[:3] == pytest.approx(rgb)


def test_metrics_and_scatter_are_shown_in_tables_and_a_chart(scene: Any, ct: Any, synthetic: Any, real: Any) -> None:
    result = comparison.compute(comparison.gather(ct=ct, synthetic=synthetic, real=real))
    table = comparison.show_metrics(scene, result)
    assert table.GetNumberOfRows() == 2
    assert [table.GetColumnName(i) for i in range(3)] == ["region", "voxels", "MAE [SUV]"]
    chart = comparison.show_scatter(scene, result)
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    assert chart.GetXAxisTitle() == "real PET [SUV]"
    assert "not for diagnosis" in chart.GetTitle()
    assert comparison.show_scatter(scene, result) is chart


def label_map(scene: Any, ct: Any) -> Any:
    labels = np.zeros((10, 24, 20), dtype=np.uint8)
    labels[3:6, 8:12, 7:11] = 1
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "lesion")
    slicer.util.updateVolumeFromArray(node, labels)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volume.ijk_to_ras(ct)))
    return node


def test_suv_in_a_label_map(scene: Any, ct: Any, synthetic: Any, real: Any) -> None:
    rows = comparison.segment_uptakes(label_map(scene, ct), synthetic=synthetic, real_suv=volume.voxels(real))
    assert [row.region for row in rows] == ["label 1, SYNTHETIC", "label 1, real"]
    assert [(row.suv_max, row.suv_mean) for row in rows] == [(4.0, 4.0), (6.0, 6.0)]
    # 48 voxels of 0.9765625 x 0.9765625 x 3.27 mm
    assert rows[0].volume_ml == pytest.approx(48 * 0.9765625**2 * 3.27 / 1000)


def test_suv_in_a_segmentation(scene: Any, ct: Any, synthetic: Any) -> None:
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    labels = label_map(scene, ct)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, segmentation)
    rows = comparison.segment_uptakes(segmentation, synthetic=synthetic, real_suv=None)
    assert [(row.suv_max, row.suv_mean) for row in rows] == [(4.0, 4.0)]


def test_empty_label_map_is_refused(scene: Any, ct: Any, synthetic: Any) -> None:
    node = label_map(scene, ct)
    volume.voxels(node)[...] = 0
    with pytest.raises(volume.SceneError, match="lesion has no segment"):
        comparison.segment_uptakes(node, synthetic=synthetic, real_suv=None)


def test_suv_in_segments_is_shown_in_a_table(scene: Any, ct: Any, synthetic: Any) -> None:
    rows = comparison.segment_uptakes(label_map(scene, ct), synthetic=synthetic, real_suv=None)
    assert comparison.show_uptakes(scene, rows).GetNumberOfRows() == 1


def test_training_is_shown_in_a_chart(scene: Any) -> None:
    curve = [CurvePoint(1, 0.9, 0.7), CurvePoint(2, 0.5, None), CurvePoint(3, 0.4, 0.6)]
    chart = tables.training_chart(scene, curve, metric="MAE [SUV]")
    assert chart.GetNumberOfPlotSeriesNodes() == 2
    assert chart.GetNthPlotSeriesNode(0).GetTableNode().GetNumberOfRows() == 3
    assert chart.GetNthPlotSeriesNode(1).GetTableNode().GetNumberOfRows() == 2


@pytest.mark.parametrize(
    ("segment", "expected"),
    [("GTV_Mass, SYNTHETIC", True), ("Tumour 2", True), ("lesion", True), ("liver, SYNTHETIC", False)],
)
def test_a_segment_is_a_lesion_by_its_name(segment: str, expected: bool) -> None:
    assert comparison.is_lesion(segment) == expected
