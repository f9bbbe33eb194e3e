"""The synthetic PET as a volume of the scene: on the CT's grid, filled slab by slab in place.

A missing slice is 0 SUV, which the display threshold hides, so that only the CT is visible; NaN would break display and
statistics of other modules. The node attribute `CT2PET.SlicesPresent` lists the present slices. Everything here uses
MRML: call it on the main thread only. Works in the desktop application and with `slicer-core`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer.util
import vtk
from vtk.util import numpy_support

import slicer
from CT2PETLib.i18n import _
from CT2PETLib.scene import node_attributes

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
POSITION_TOLERANCE_VOXELS = 1e-2  # nii.gz stores the affine as float32: 4e-8 mm at the centre, more far away
SUV_QUANTITY = ("126400", "DCM", "Standardized Uptake Value")
SUV_BW_UNIT = ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")


class SceneError(Exception):
    """An operation is not possible with the chosen volumes; the message names the volume, the reason and a remedy."""


def ijk_to_ras(node: Any) -> np.ndarray[Any, Any]:
    """Return a volume's matrix from voxel (i, j, k) to RAS in mm, shape (4, 4), without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def voxels(node: Any) -> np.ndarray[Any, Any]:
    """Return the voxels of a volume node, shape (K, R, C), as a view of the node's memory.

    Raises:
        SceneError: The node has no voxels, or is a colour image.
    """
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise SceneError(_("{volume} has no image; load it again.").format(volume=node.GetName()))
    if image.GetNumberOfScalarComponents() != 1:
        raise SceneError(
            _("{volume} is a colour image, expected one value per voxel; choose a CT or PET volume.").format(
                volume=node.GetName()
            )
        )
    return slicer.util.arrayFromVolume(node)


def make_pet_node(
    scene: Any,
    ct_node: Any,
    *,
    model: str,
    version: str = "",
    title: str = "",
    role: str = node_attributes.SYNTHETIC_PET,
    array: np.ndarray[Any, Any] | None = None,
) -> Any:
    """Add a scalar volume on the CT's grid, float32 SUVbw, all 0, labelled as synthetic; return its node.

    Args:
        scene: Scene to add the node to.
        ct_node: The volume gets the matrix and the parent transform of this CT.
        model: Name of the model.
        version: Version of the model.
        title: Model in the node's name; `model` by default.
        role: `SYNTHETIC_PET`, `UNCERTAINTY` or `DIFFERENCE` of `node_attributes`.
        array: Voxels, float32 of the CT's shape, adopted without a copy; zeros by default.
    """
    name = node_attributes.pet_name(ct_node.GetName(), title or model)
    if role == node_attributes.UNCERTAINTY:
        name = name.replace("SYNTHETIC PET", "EXPECTED ERROR of SYNTHETIC PET")
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.CopyOrientation(ct_node)
    node.SetAndObserveTransformNodeID(ct_node.GetTransformNodeID())
    set_voxels(node, np.zeros(voxels(ct_node).shape, dtype=np.float32) if array is None else array)
    node.SetVoxelValueQuantity(_coded(SUV_QUANTITY))
    node.SetVoxelValueUnits(_coded(SUV_BW_UNIT))
    for key, value in (
        (node_attributes.ROLE, role),
        (node_attributes.WARNING, node_attributes.SYNTHETIC),
        (node_attributes.MODEL, model),
        (node_attributes.VERSION, version),
        (node_attributes.PRESENT, ""),
    ):
        node.SetAttribute(key, value)
    node.SetNodeReferenceID(node_attributes.CT_NODE, ct_node.GetID())
    _add_next_to(scene, node, ct_node)
    return node


def make_volume_node(scene: Any, array: np.ndarray[Any, Any], affine_lps: np.ndarray[Any, Any], name: str) -> Any:
    """Add a scalar volume of voxels, shape (K, R, C), and their affine in LPS mm; return its node.

    The array is adopted as in `set_voxels`, and no window is computed.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(LPS_TO_RAS @ affine_lps))
    set_voxels(node, array)
    return node


def set_voxels(node: Any, array: np.ndarray[Any, Any]) -> None:
    """Set the voxels of a volume, shape (K, R, C); the array is adopted, and copied only if it is read-only.

    Copying a large CT would block the window's thread for a tenth of a second, and so would computing a window from all
    voxels. So a node without display node gets one with the automatic window switched off.
    """
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().AutoWindowLevelOff()
    adopted = np.require(array, requirements=("C", "W"))
    scalars = numpy_support.numpy_to_vtk(adopted.reshape(-1), deep=False)  # keeps a reference to the array
    scalars.SetName("ImageScalars")
    image = vtk.vtkImageData()
    image.SetDimensions(adopted.shape[2], adopted.shape[1], adopted.shape[0])
    image.GetPointData().SetScalars(scalars)
    node.SetAndObserveImageData(image)


def fill_slab(node: Any, slab_suv: np.ndarray[Any, Any], slab_affine_lps: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Write a slab into the volume in place, at the position of its geometry; return its range of slices (start, stop).

    A slab whose axes differ in order or direction from those of the CT in Slicer is reoriented.

    Args:
        node: Volume of `make_pet_node`.
        slab_suv: Voxels, shape (K, R, C), SUVbw.
        slab_affine_lps: From voxel (i, j, k) of the slab to LPS in mm, shape (4, 4).

    Raises:
        SceneError: The slab has another grid, or is outside of the volume.
    """
    full = voxels(node)
    slab, start_ijk = _reoriented(node, slab_suv, slab_affine_lps)
    i, j, k = start_ijk
    target = full[k : k + slab.shape[0], j : j + slab.shape[1], i : i + slab.shape[2]]
    if min(start_ijk) < 0 or target.shape != slab.shape:
        raise SceneError(
            _(
                "{volume}: a slab of shape {shape} at voxel {voxel} is not inside the CT's shape {full}. "
                "If the CT was cropped after it was sent, send it again."
            ).format(volume=node.GetName(), shape=slab.shape, voxel=start_ijk, full=full.shape)
        )
    if slab.shape[1:] != full.shape[1:]:
        raise SceneError(
            _("{volume}: the slab has {shape} rows and columns, expected the CT's {shape_2}.").format(
                volume=node.GetName(), shape=slab.shape[1:], shape_2=full.shape[1:]
            )
        )
    target[...] = slab
    present = present_slices(node)
    present[k : k + slab.shape[0]] = True
    node.SetAttribute(node_attributes.PRESENT, node_attributes.ranges_text(present))
    slicer.util.arrayFromVolumeModified(node)
    return k, k + slab.shape[0]


def clear_slabs(node: Any) -> None:
    """Discard the slices of a synthetic PET, as they were predicted with other weights than those to follow."""
    voxels(node)[...] = 0
    node.SetAttribute(node_attributes.PRESENT, "")
    slicer.util.arrayFromVolumeModified(node)


def present_slices(node: Any) -> np.ndarray[Any, Any]:
    """Return which slices of a synthetic PET are present, booleans, shape (K,)."""
    return node_attributes.ranges_mask(node.GetAttribute(node_attributes.PRESENT) or "", voxels(node).shape[0])


def missing_text(node: Any) -> str:
    """Return the number of missing slices of a synthetic PET as text; empty if all are present."""
    present = present_slices(node)
    if present.all():
        return ""
    return _("{sum} of {size} slices not synthesised").format(sum=int((~present).sum()), size=present.size)


def slice_at(node: Any, ras_mm: np.ndarray[Any, Any]) -> int | None:
    """Return the slice (index of the third axis) that contains a point in RAS mm; None outside of the volume."""
    ijk = np.linalg.inv(ijk_to_ras(node)) @ np.append(np.asarray(ras_mm, dtype=float), 1.0)
    k = round(float(ijk[2]))
    return k if 0 <= k < voxels(node).shape[0] else None


def is_suv(node: Any) -> bool:
    """Return whether the units of a volume are body-weight SUV."""
    units = node.GetVoxelValueUnits()
    return units is not None and "SUVBW" in (units.GetCodeValue() or "").upper()


def declare_suv(node: Any) -> None:
    """Set the units of a volume to SUVbw."""
    node.SetVoxelValueQuantity(_coded(SUV_QUANTITY))
    node.SetVoxelValueUnits(_coded(SUV_BW_UNIT))


def _reoriented(
    node: Any, slab: np.ndarray[Any, Any], affine_lps: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], tuple[int, int, int]]:
    """Return the slab with the node's axes, and the node's voxel (i, j, k) of its first voxel."""
    to_node = np.linalg.inv(ijk_to_ras(node)) @ LPS_TO_RAS @ np.asarray(affine_lps, dtype=float)
    axes = np.rint(to_node[:3, :3]).astype(int)
    is_permutation = (np.abs(axes).sum(axis=0) == 1).all() and (np.abs(axes).sum(axis=1) == 1).all()
    far_ijk = np.array(slab.shape[::-1], dtype=float) - 1
    # also at the far corner, as a small error of the spacing adds up over the slices
    corners = np.array([[0.0, 0, 0, 1], [*far_ijk, 1]]).T
    positions = (to_node @ corners)[:3]
    off = float(np.abs(positions - np.rint(positions)).max())
    if not is_permutation or off > POSITION_TOLERANCE_VOXELS:
        raise SceneError(
            _(
                "{volume}: the slab has another grid than the CT (off by {off:.3f} voxels). If the CT was moved "
                "or resampled after it was sent, send it again."
            ).format(volume=node.GetName(), off=off)
        )
    # numpy's axes are (k, j, i): axis a of the node is the axis of the slab whose column is nonzero in row a
    order = [2 - int(np.flatnonzero(axes[row])[0]) for row in (2, 1, 0)]
    transposed = slab.transpose(order)
    flips = tuple(slice(None, None, -1) if axes[row].sum() < 0 else slice(None) for row in (2, 1, 0))
    start = np.rint(positions).astype(int).min(axis=1)
    return transposed[flips], (int(start[0]), int(start[1]), int(start[2]))


def _coded(code: tuple[str, str, str]) -> Any:
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*code)
    return entry


def _add_next_to(scene: Any, node: Any, ct_node: Any) -> None:
    """Move the node next to its CT in the subject hierarchy, if the scene has one."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    ct_item = hierarchy.GetItemByDataNode(ct_node) if hierarchy else 0
    if ct_item:
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), hierarchy.GetItemParent(ct_item))
