"""The synthetic PET beside the real one, in the scene: difference map, tables, scatter plot, SUV in segments.

The work is in three steps, so that the window never waits: `gather` takes arrays out of the scene (main thread),
`compute` reckons with them alone (worker thread), `show_*` put the outcome into the scene (main thread).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer.util
import vtk

import slicer
from CT2PETLib.scene import metrics, node_attributes, resampling
from CT2PETLib.scene.tables import fill_table, get_or_add_node, plot
from CT2PETLib.scene.volume import SceneError, ijk_to_ras, is_suv, make_pet_node, present_slices, set_voxels, voxels

DIFFERENCE_WINDOW_SUV = 4.0  # each way
DIFFERENCE_COLOURS = "CT2PET difference"
HOT_SUV = 2.5  # the server's limit for hot voxels, too


@dataclass(frozen=True)
class Beside:
    """Arrays of a comparison, out of the scene.

    Attributes:
        ct_hu: The CT, shape (K, R, C).
        synthetic_suv: On the CT's grid.
        present: Which slices were synthesised, shape (K,).
        real_suv: On its own grid.
        matrix, real_matrix: From voxel (i, j, k) to RAS in mm, of the CT's grid and of the real PET's.
    """

    ct_hu: np.ndarray
    synthetic_suv: np.ndarray
    present: np.ndarray
    real_suv: np.ndarray
    matrix: np.ndarray
    real_matrix: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What `compute` found.

    Attributes:
        real_suv: The real PET on the CT's grid, NaN where it was not measured.
        difference_suv: Synthetic minus real, 0 where either is missing.
        rows: Figures of the body, and of its hot part.
        scatter: SUV of voxels spread over the body, real and synthetic.
    """

    real_suv: np.ndarray
    difference_suv: np.ndarray
    rows: tuple[metrics.Figures, ...]
    scatter: tuple[np.ndarray, np.ndarray]


def gather(*, ct: Any, synthetic: Any, real: Any) -> Beside:
    """Return what a comparison needs: views into the scene, as a copy would keep the window waiting.

    Raises:
        SceneError: The real PET does not say that it is in SUVbw, or lies under another transform; or nothing was
            synthesised.
    """
    if not is_suv(real):
        raise SceneError(
            f"{real.GetName()}: does not say that its numbers are SUVbw; load it with the PET DICOM extension, or tick "
            '"its numbers are SUVbw" if you know that they are'
        )
    if real.GetTransformNodeID() != synthetic.GetTransformNodeID():
        raise SceneError(f"{real.GetName()}: lies under another transform than the CT; harden both transforms first")
    present = present_slices(synthetic)
    if not present.any():
        raise SceneError(f"{synthetic.GetName()}: no slice has been synthesised yet; press Synthesise first")
    if voxels(ct).shape != voxels(synthetic).shape:
        raise SceneError(f"{synthetic.GetName()}: was not drawn from {ct.GetName()}; choose the CT it was drawn from")
    return Beside(voxels(ct), voxels(synthetic), present, voxels(real), ijk_to_ras(synthetic), ijk_to_ras(real))


def compute(beside: Beside) -> Comparison:
    """Return the comparison; touches no MRML.

    Raises:
        SceneError: The two PETs have no voxel of the body in common.
    """
    shape = beside.synthetic_suv.shape
    real = resampling.resample(
        beside.real_suv, ijk_to_ras=beside.real_matrix, onto_ijk_to_ras=beside.matrix, shape=shape
    )
    body = resampling.body_mask(beside.ct_hu) & beside.present[:, None, None]
    if not (body & np.isfinite(real)).any():
        raise SceneError(
            "the real PET and the synthesised slices have no part of the body in common; are they of one study?"
        )
    difference = np.where(np.isfinite(real) & beside.present[:, None, None], beside.synthetic_suv - real, 0.0)
    with np.errstate(invalid="ignore"):
        hot = body & (real > HOT_SUV)
    rows = (
        metrics.figures(beside.synthetic_suv, real, body, region="body"),
        metrics.figures(beside.synthetic_suv, real, hot, region=f"body, real > {HOT_SUV:g} SUV"),
    )
    scatter = metrics.scatter_sample(beside.synthetic_suv, real, body)
    return Comparison(real, difference.astype(np.float32), rows, scatter)


def show_difference(scene: Any, ct: Any, synthetic: Any, comparison: Comparison) -> Any:
    """Return the volume node of synthetic minus real, made once for each synthetic PET; blue too cold, red too hot."""
    node = synthetic.GetNodeReference(node_attributes.DIFFERENCE_MAP)
    if node is None:
        model = synthetic.GetAttribute(node_attributes.MODEL) or ""
        node = make_pet_node(scene, ct, model=model, role=node_attributes.DIFFERENCE, array=comparison.difference_suv)
        node.SetName(scene.GenerateUniqueName(f"{ct.GetName()} SYNTHETIC minus real PET (not for diagnosis)"))
        synthetic.SetNodeReferenceID(node_attributes.DIFFERENCE_MAP, node.GetID())
    else:
        set_voxels(node, comparison.difference_suv)
    node.SetAttribute(node_attributes.PRESENT, synthetic.GetAttribute(node_attributes.PRESENT))
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(-DIFFERENCE_WINDOW_SUV, DIFFERENCE_WINDOW_SUV)
    display.SetAndObserveColorNodeID(_difference_colours(scene).GetID())
    return node


def show_metrics(scene: Any, comparison: Comparison) -> Any:
    """Return the table node of the figures, one row a region."""
    rows = comparison.rows
    return fill_table(
        get_or_add_node(scene, "vtkMRMLTableNode", "CT2PET figures (SYNTHETIC, not for diagnosis)"),
        {
            "region": [row.region for row in rows],
            "voxels": [row.voxels for row in rows],
            "MAE [SUV]": [row.mae_suv for row in rows],
            "RMSE [SUV]": [row.rmse_suv for row in rows],
            "PSNR [dB]": [row.psnr_db for row in rows],
            "bias [SUV]": [row.bias_suv for row in rows],
            "correlation": [row.correlation for row in rows],
        },
    )


def show_scatter(scene: Any, comparison: Comparison) -> Any:
    """Return the chart of synthetic against real SUV, with the line on which they are equal."""
    real, synthetic = comparison.scatter
    table = fill_table(
        get_or_add_node(scene, "vtkMRMLTableNode", "CT2PET scatter"), {"real": list(real), "synthetic": list(synthetic)}
    )
    end = float(max(real.max(), synthetic.max(), 1.0))
    ends = [0.0, end]
    line = fill_table(get_or_add_node(scene, "vtkMRMLTableNode", "CT2PET equal"), {"real": ends, "synthetic": ends})
    return plot(
        scene, "SYNTHETIC PET beside the real one (not for diagnosis)",
        [("voxels of the body", table, "real", "synthetic", "points"), ("equal", line, "real", "synthetic", "line")],
        x="real PET [SUV]", y="synthetic PET [SUV]",
    )  # fmt: skip


def segment_masks(node: Any, onto: Any) -> list[tuple[str, np.ndarray]]:
    """Return each segment, or label of a label map, on a volume's grid: name and booleans (K, R, C).

    Raises:
        SceneError: There is no segment, or the label map lies on another grid.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        found = [
            (node.GetSegmentation().GetSegment(i).GetName(), _segment_mask(node, i, onto))
            for i in node.GetSegmentation().GetSegmentIDs()
        ]
    else:
        labels = voxels(node)
        if labels.shape != voxels(onto).shape or not np.allclose(ijk_to_ras(node), ijk_to_ras(onto), atol=1e-3):
            raise SceneError(f"{node.GetName()}: lies on another grid than the PET; turn it into a segmentation first")
        found = [(f"label {value}", labels == value) for value in np.unique(labels) if value]
    if not found:
        raise SceneError(f"{node.GetName()}: holds no segment; draw one in the Segment Editor")
    return found


def segment_uptakes(node: Any, *, synthetic: Any, real_suv: np.ndarray | None) -> list[metrics.Uptake]:
    """Return SUVmax and SUVmean in each segment, of the synthetic PET and of the real one where there is one.

    Voxels of slices that have not come are not counted.
    """
    present = present_slices(synthetic)[:, None, None]
    voxel_ml = abs(float(np.linalg.det(ijk_to_ras(synthetic)[:3, :3]))) / 1000
    rows = []
    for name, inside in segment_masks(node, synthetic):
        counted = inside & present
        rows.append(metrics.uptake(voxels(synthetic), counted, voxel_ml=voxel_ml, region=f"{name}, SYNTHETIC"))
        if real_suv is not None:
            rows.append(metrics.uptake(real_suv, counted, voxel_ml=voxel_ml, region=f"{name}, real"))
    return rows


def show_uptakes(scene: Any, rows: list[metrics.Uptake]) -> Any:
    """Return the table node of SUV in segments."""
    return fill_table(
        get_or_add_node(scene, "vtkMRMLTableNode", "CT2PET SUV in segments (not for diagnosis)"),
        {
            "segment": [row.region for row in rows],
            "volume [mL]": [row.volume_ml for row in rows],
            "SUVmax": [row.suv_max for row in rows],
            "SUVmean": [row.suv_mean for row in rows],
            "SD": [row.suv_sd for row in rows],
        },
    )


def _segment_mask(node: Any, segment_id: str, onto: Any) -> np.ndarray:
    """Return a segment on a volume's grid; `slicer.util` does the same where there are modules."""
    logic, wanted = slicer.vtkSlicerSegmentationsModuleLogic, vtk.vtkStringArray()
    wanted.InsertNextValue(segment_id)
    labels = node.GetScene().AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "CT2PET segment")
    try:
        if not logic.ExportSegmentsToLabelmapNode(node, wanted, labels, onto):
            raise SceneError(f"{node.GetName()}: a segment cannot be put on the PET's grid; draw it on this CT")
        return slicer.util.arrayFromVolume(labels) != 0
    finally:
        node.GetScene().RemoveNode(labels)


def _difference_colours(scene: Any) -> Any:
    """Return the table blue - white - red, 256 colours, made once."""
    node = scene.GetFirstNodeByName(DIFFERENCE_COLOURS)
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLColorTableNode", DIFFERENCE_COLOURS)
        node.SetTypeToUser()
        node.SetNumberOfColors(256)
        for index in range(256):
            t = (index - 127.5) / 127.5
            red, green, blue = min(1.0, 1 + t), 1 - abs(t), min(1.0, 1 - t)
            node.SetColor(index, f"{t * DIFFERENCE_WINDOW_SUV:+.1f} SUV", red, green, blue, 1.0)
        node.SetHideFromEditors(False)
    return node
