"""Comparison of the synthetic PET with the real one: difference map, tables, scatter plot, SUV in segments.

It has three steps, so that the window never blocks: `gather` gets arrays from the scene (main thread), `compute`
evaluates them (worker thread), `show_*` add the results to the scene (main thread).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import slicer.util
import vtk

import slicer
from CT2PETLib.i18n import _
from CT2PETLib.scene import metrics, node_attributes, resampling
from CT2PETLib.scene.tables import fill_table, get_or_add_node, make_chart
from CT2PETLib.scene.volume import SceneError, ijk_to_ras, is_suv, make_pet_node, present_slices, set_voxels, voxels

DIFFERENCE_WINDOW_SUV = 4.0  # in either direction
DIFFERENCE_COLOURS = "CT2PET difference"
HOT_SUV = 2.5  # as on the server
LESION_NAMES = ("gtv", "tumour", "tumor", "lesion")


@dataclass(frozen=True)
class ComparisonInputs:
    """Input arrays of a comparison.

    Attributes:
        ct_hu: The CT, shape (K, R, C).
        synthetic_suv: On the CT's grid.
        present: Synthesised slices, booleans, shape (K,).
        real_suv: On its own grid.
        matrix, real_matrix: From voxel (i, j, k) to RAS in mm, for the grids of the CT and of the real PET.
    """

    ct_hu: np.ndarray[Any, Any]
    synthetic_suv: np.ndarray[Any, Any]
    present: np.ndarray[Any, Any]
    real_suv: np.ndarray[Any, Any]
    matrix: np.ndarray[Any, Any]
    real_matrix: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Comparison:
    """Result of `compute`.

    Attributes:
        real_suv: The real PET on the CT's grid, NaN where it was not measured.
        difference_suv: Synthetic minus real, 0 where either is missing.
        rows: Metrics of the body, and of its hot part.
        scatter: Real and synthetic SUV of voxels spread over the body.
    """

    real_suv: np.ndarray[Any, Any]
    difference_suv: np.ndarray[Any, Any]
    rows: tuple[metrics.RegionMetrics, ...]
    scatter: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def gather(*, ct: Any, synthetic: Any, real: Any) -> ComparisonInputs:
    """Return the inputs of a comparison, as views of the scene's memory: a copy would block the window.

    Raises:
        SceneError: The units of the real PET are not SUVbw, the parent transforms differ, or no slice is synthesised.
    """
    if not is_suv(real):
        raise SceneError(
            _(
                "{volume}: the units are not SUVbw. Load it with the PET DICOM extension, or tick “I know that "
                "the values are SUVbw”."
            ).format(volume=real.GetName())
        )
    if real.GetTransformNodeID() != synthetic.GetTransformNodeID():
        raise SceneError(
            _("{volume} and the CT have different parent transforms; harden both transforms first.").format(
                volume=real.GetName()
            )
        )
    present = present_slices(synthetic)
    if not present.any():
        raise SceneError(
            _("{volume}: no slice is synthesised yet; press Synthesise PET first.").format(volume=synthetic.GetName())
        )
    if voxels(ct).shape != voxels(synthetic).shape:
        raise SceneError(
            _("{volume} was synthesised from another CT than {volume_2}; choose that CT.").format(
                volume=synthetic.GetName(), volume_2=ct.GetName()
            )
        )
    return ComparisonInputs(
        voxels(ct), voxels(synthetic), present, voxels(real), ijk_to_ras(synthetic), ijk_to_ras(real)
    )


def compute(inputs: ComparisonInputs) -> Comparison:
    """Return the comparison; does not use MRML.

    Raises:
        SceneError: The two PETs have no voxel of the body in common.
    """
    shape = inputs.synthetic_suv.shape
    real = resampling.resample(
        inputs.real_suv, ijk_to_ras=inputs.real_matrix, target_ijk_to_ras=inputs.matrix, shape=shape
    )
    body = resampling.body_mask(inputs.ct_hu) & inputs.present[:, None, None]
    if not (body & np.isfinite(real)).any():
        raise SceneError(
            _(
                "The real PET and the synthesised slices have no part of the body in common: check that they "
                "belong to one study."
            )
        )
    difference = np.where(np.isfinite(real) & inputs.present[:, None, None], inputs.synthetic_suv - real, 0.0)
    with np.errstate(invalid="ignore"):
        hot = body & (real > HOT_SUV)
    rows = (
        metrics.region_metrics(inputs.synthetic_suv, real, body, region="body"),
        metrics.region_metrics(inputs.synthetic_suv, real, hot, region=f"real > {HOT_SUV:g} SUV"),
    )
    scatter = metrics.scatter_sample(inputs.synthetic_suv, real, body)
    return Comparison(real, difference.astype(np.float32), rows, scatter)


def show_difference(scene: Any, ct: Any, synthetic: Any, comparison: Comparison) -> Any:
    """Return the difference map, one per synthetic PET: blue is underestimated, red overestimated."""
    node = synthetic.GetNodeReference(node_attributes.DIFFERENCE_MAP)
    if node is None:
        model = synthetic.GetAttribute(node_attributes.MODEL) or ""
        node = make_pet_node(scene, ct, model=model, role=node_attributes.DIFFERENCE, array=comparison.difference_suv)
        node.SetName(scene.GenerateUniqueName(f"SYNTHETIC minus real PET (not for diagnosis) of {ct.GetName()}"))
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
    """Return the table node of the metrics, one row per region."""
    rows = comparison.rows
    return fill_table(
        get_or_add_node(scene, "vtkMRMLTableNode", "CT2PET metrics (SYNTHETIC, not for diagnosis)"),
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
    """Return the chart of synthetic against real SUV, with the line of identity."""
    real, synthetic = comparison.scatter
    table = fill_table(
        get_or_add_node(scene, "vtkMRMLTableNode", "CT2PET scatter"), {"real": list(real), "synthetic": list(synthetic)}
    )
    end = float(max(real.max(), synthetic.max(), 1.0))
    ends = [0.0, end]
    line = fill_table(get_or_add_node(scene, "vtkMRMLTableNode", "CT2PET identity"), {"real": ends, "synthetic": ends})
    return make_chart(
        scene, "SYNTHETIC against real PET (not for diagnosis)",
        [("voxels of the body", table, "real", "synthetic", "points"), ("identity", line, "real", "synthetic", "line")],
        x="real PET [SUV]", y="synthetic PET [SUV]",
    )  # fmt: skip


def segment_masks(node: Any, reference: Any) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return each segment, or each label of a label map, on a volume's grid: name and mask (K, R, C).

    Raises:
        SceneError: There is no segment, or the label map has another grid.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        found = [
            (node.GetSegmentation().GetSegment(i).GetName(), _segment_mask(node, i, reference))
            for i in node.GetSegmentation().GetSegmentIDs()
        ]
    else:
        labels = voxels(node)
        same_affine = np.allclose(ijk_to_ras(node), ijk_to_ras(reference), atol=1e-3)
        if labels.shape != voxels(reference).shape or not same_affine:
            raise SceneError(
                _("{volume} has another grid than the PET; convert it to a segmentation first.").format(
                    volume=node.GetName()
                )
            )
        found = [(_("label {value}").format(value=value), labels == value) for value in np.unique(labels) if value]
    if not found:
        raise SceneError(_("{volume} has no segment; draw one in the Segment Editor.").format(volume=node.GetName()))
    return found


def segment_uptakes(node: Any, *, synthetic: Any, real_suv: np.ndarray[Any, Any] | None) -> list[metrics.Uptake]:
    """Return SUVmax and SUVmean in each segment, of the synthetic PET and, if given, of the real one.

    Missing slices are ignored.
    """
    present = present_slices(synthetic)[:, None, None]
    voxel_ml = abs(float(np.linalg.det(ijk_to_ras(synthetic)[:3, :3]))) / 1000
    rows = []
    for name, inside in segment_masks(node, synthetic):
        mask = inside & present
        row = metrics.uptake(
            voxels(synthetic), mask, voxel_ml=voxel_ml, region=_("{name}, SYNTHETIC").format(name=name)
        )
        rows.append(replace(row, is_synthetic=True))
        if real_suv is not None:
            rows.append(metrics.uptake(real_suv, mask, voxel_ml=voxel_ml, region=_("{name}, real").format(name=name)))
    return rows


def is_lesion(segment: str) -> bool:
    """Return whether a segment is a tumour by its name, as on the server."""
    return any(word in segment.lower() for word in LESION_NAMES)


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


def _segment_mask(node: Any, segment_id: str, reference: Any) -> np.ndarray[Any, Any]:
    """Return the mask of a segment on a volume's grid; `slicer.util` needs the application's modules for this."""
    logic, segment_ids = slicer.vtkSlicerSegmentationsModuleLogic, vtk.vtkStringArray()
    segment_ids.InsertNextValue(segment_id)
    labels = node.GetScene().AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "CT2PET segment")
    try:
        if not logic.ExportSegmentsToLabelmapNode(node, segment_ids, labels, reference):
            raise SceneError(
                _("{volume}: a segment cannot be resampled to the PET's grid; draw it on this CT.").format(
                    volume=node.GetName()
                )
            )
        return slicer.util.arrayFromVolume(labels) != 0
    finally:
        node.GetScene().RemoveNode(labels)


def _difference_colours(scene: Any) -> Any:
    """Return the colour table from blue over white to red with 256 entries; add it if the scene has none."""
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
