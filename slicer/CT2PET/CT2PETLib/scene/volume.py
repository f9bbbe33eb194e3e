"""The synthetic PET as a volume of the scene: on the CT's grid, and filled slab by slab in place.

A slice that has not come holds 0 SUV, which the display's threshold hides: the CT alone is seen there. Which ones have
come stands in the node's attribute `CT2PET.SlicesPresent`; NaN in their place would spoil display and sums of others.
Everything here touches MRML: call it on the main thread only. Works in the desktop program and on `slicer-core`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer.util
import vtk
from vtk.util import numpy_support

import slicer
from CT2PETLib.scene import node_attributes

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
POSITION_TOLERANCE_VOXELS = 1e-2  # a nii.gz keeps its affine in float32: 4e-8 mm at the centre, more far away
SUV_QUANTITY = ("126400", "DCM", "Standardized Uptake Value")
SUV_BW_UNIT = ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")


class SceneError(Exception):
    """What the user asked for cannot be done with the volumes of the scene; says which, why and the way out."""


def ijk_to_ras(node: Any) -> np.ndarray:
    """Return a volume's matrix from voxel (i, j, k) to RAS in mm, shape (4, 4); its parent transform is left out."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def voxels(node: Any) -> np.ndarray:
    """Return a volume node's voxels, shape (K, R, C), as a view into the scene.

    Raises:
        SceneError: The node holds no voxels, or colours.
    """
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise SceneError(f"{node.GetName()}: holds no image yet; load it again")
    if image.GetNumberOfScalarComponents() != 1:
        raise SceneError(f"{node.GetName()}: a colour image, expected one number a voxel; choose a CT or PET volume")
    return slicer.util.arrayFromVolume(node)


def make_pet_node(
    scene: Any,
    ct_node: Any,
    *,
    model: str,
    version: str = "",
    title: str = "",
    role: str = node_attributes.SYNTHETIC_PET,
    array: np.ndarray | None = None,
) -> Any:
    """Return a new scalar volume on the CT's grid, float32 SUVbw, all 0, that says what it is.

    Args:
        scene: Where the node is made.
        ct_node: Its matrix and its parent transform are taken as they are.
        model: Name of the model that draws it.
        version: Which version of the model.
        title: What the node's name calls the model; `model` where it is empty.
        role: `marks.SYNTHETIC_PET` or `marks.UNCERTAINTY`.
        array: Its voxels, which become the scene's own; float32 of the CT's shape. Zeros where there are none.
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
    _put_beside(scene, node, ct_node)
    return node


def make_volume_node(scene: Any, array: np.ndarray, affine_lps: np.ndarray, name: str) -> Any:
    """Return a new scalar volume of these voxels, shape (K, R, C), where the affine says, in LPS mm.

    They become the scene's own, as `set_voxels` says. No window is chosen.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(LPS_TO_RAS @ affine_lps))
    set_voxels(node, array)
    return node


def set_voxels(node: Any, array: np.ndarray) -> None:
    """Make an array, shape (K, R, C), a volume's voxels, without copying it unless it cannot be written.

    The window's thread must not wait: a copy of a large CT takes a tenth of a second, and so does Slicer's choice of a
    window by all voxels. So a node without display gets one that leaves the window alone.
    """
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().AutoWindowLevelOff()
    kept = np.require(array, requirements=("C", "W"))
    scalars = numpy_support.numpy_to_vtk(kept.reshape(-1), deep=False)  # holds the array as long as it lives
    scalars.SetName("ImageScalars")
    image = vtk.vtkImageData()
    image.SetDimensions(kept.shape[2], kept.shape[1], kept.shape[0])
    image.GetPointData().SetScalars(scalars)
    node.SetAndObserveImageData(image)


def fill_slab(node: Any, slab_suv: np.ndarray, slab_affine_lps: np.ndarray) -> tuple[int, int]:
    """Write a slab into the volume where its geometry says, in place; return its first slice and the one after it.

    A slab whose axes are another way round than the CT's in Slicer (slices counted from the other end) is turned.

    Args:
        node: Made by `make_pet_node`.
        slab_suv: Voxels, shape (K, R, C), SUVbw.
        slab_affine_lps: From voxel (i, j, k) of the slab to LPS in mm, shape (4, 4).

    Raises:
        SceneError: The slab lies on another grid, or beyond the volume.
    """
    whole = voxels(node)
    turned, start_ijk = _turned(node, slab_suv, slab_affine_lps)
    i, j, k = start_ijk
    target = whole[k : k + turned.shape[0], j : j + turned.shape[1], i : i + turned.shape[2]]
    if min(start_ijk) < 0 or target.shape != turned.shape:
        raise SceneError(
            f"{node.GetName()}: a slab of shape {turned.shape} from voxel {start_ijk} does not lie inside the CT's "
            f"{whole.shape}; was the CT cropped after it was sent? Send it again"
        )
    if turned.shape[1:] != whole.shape[1:]:
        raise SceneError(
            f"{node.GetName()}: the slab holds {turned.shape[1:]} of the CT's {whole.shape[1:]} rows and columns"
        )
    target[...] = turned
    present = present_slices(node)
    present[k : k + turned.shape[0]] = True
    node.SetAttribute(node_attributes.PRESENT, node_attributes.ranges_text(present))
    slicer.util.arrayFromVolumeModified(node)
    return k, k + turned.shape[0]


def clear_slabs(node: Any) -> None:
    """Empty a synthetic PET: what had come was drawn by other weights than what will come."""
    voxels(node)[...] = 0
    node.SetAttribute(node_attributes.PRESENT, "")
    slicer.util.arrayFromVolumeModified(node)


def present_slices(node: Any) -> np.ndarray:
    """Return which slices of a synthetic PET have come, booleans, shape (K,)."""
    return node_attributes.ranges_mask(node.GetAttribute(node_attributes.PRESENT) or "", voxels(node).shape[0])


def missing_text(node: Any) -> str:
    """Return in words how much of a synthetic PET has not come; empty when all has."""
    present = present_slices(node)
    if present.all():
        return ""
    return f"{int((~present).sum())} of {present.size} slices not synthesised"


def slice_at(node: Any, ras_mm: np.ndarray) -> int | None:
    """Return the slice (index along the third axis) that a point of the world lies in; None outside the volume."""
    ijk = np.linalg.inv(ijk_to_ras(node)) @ np.append(np.asarray(ras_mm, dtype=float), 1.0)
    k = round(float(ijk[2]))
    return k if 0 <= k < voxels(node).shape[0] else None


def is_suv(node: Any) -> bool:
    """Return whether a volume says that its numbers are body-weight SUV."""
    units = node.GetVoxelValueUnits()
    return units is not None and "SUVBW" in (units.GetCodeValue() or "").upper()


def declare_suv(node: Any) -> None:
    """Write into a volume node that its numbers are SUVbw, as the user or its source said."""
    node.SetVoxelValueQuantity(_coded(SUV_QUANTITY))
    node.SetVoxelValueUnits(_coded(SUV_BW_UNIT))


def _turned(node: Any, slab: np.ndarray, affine_lps: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the slab with its axes as the node's, and the node's voxel (i, j, k) that its first voxel is."""
    to_node = np.linalg.inv(ijk_to_ras(node)) @ LPS_TO_RAS @ np.asarray(affine_lps, dtype=float)
    axes = np.rint(to_node[:3, :3]).astype(int)
    one_each = (np.abs(axes).sum(axis=0) == 1).all() and (np.abs(axes).sum(axis=1) == 1).all()
    far_ijk = np.array(slab.shape[::-1], dtype=float) - 1
    # judged at the far corner, too: a spacing that is off by little adds up over the slices
    corners = np.array([[0.0, 0, 0, 1], [*far_ijk, 1]]).T
    places = (to_node @ corners)[:3]
    off = float(np.abs(places - np.rint(places)).max())
    if not one_each or off > POSITION_TOLERANCE_VOXELS:
        raise SceneError(
            f"{node.GetName()}: the slab lies on another grid than the CT (off by {off:.3f} voxels); "
            "was the CT moved or resampled after it was sent? Send it again"
        )
    # numpy's axes are (k, j, i): axis a of the node is the slab's axis whose column has the entry in row a
    order = [2 - int(np.flatnonzero(axes[row])[0]) for row in (2, 1, 0)]
    turned = slab.transpose(order)
    flips = tuple(slice(None, None, -1) if axes[row].sum() < 0 else slice(None) for row in (2, 1, 0))
    start = np.rint(places).astype(int).min(axis=1)
    return turned[flips], (int(start[0]), int(start[1]), int(start[2]))


def _coded(code: tuple[str, str, str]) -> Any:
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*code)
    return entry


def _put_beside(scene: Any, node: Any, ct_node: Any) -> None:
    """Put the node by its CT in the subject hierarchy, where the scene has one."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    ct_item = hierarchy.GetItemByDataNode(ct_node) if hierarchy else 0
    if ct_item:
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), hierarchy.GetItemParent(ct_item))
