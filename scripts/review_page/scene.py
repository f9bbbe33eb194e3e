"""The MRML scene of the page: volume nodes and display as in the Slicer extension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from CT2PETLib.scene import display, layouts, node_attributes
from CT2PETLib.scene.volume import declare_suv, fill_slab, make_pet_node, make_volume_node, voxels

from scripts.review_page.server_data import ReviewData

COLOUR = "PET heat"
BAR_STEPS = 24
MIN_TALL_RATIO = 1.4


@dataclass(frozen=True)
class VolumeNodes:
    """The volume nodes; `real` is None if the server has no measured PET."""

    ct: Any
    pet: Any
    real: Any


@dataclass(frozen=True)
class DisplaySettings:
    """Display of the PET.

    Attributes:
        opacity: Opacity of the PET over the CT, 0 to 1.
        window_suv: SUV of the first and the last colour.
        threshold_suv: Only the CT is visible below.
        measured: Show the measured PET instead of the synthetic one.
    """

    opacity: float = display.OPACITY
    window_suv: tuple[float, float] = display.WINDOW_SUV
    threshold_suv: float = display.THRESHOLD_SUV
    measured: bool = False


def add_volumes(scene: Any, review: ReviewData) -> VolumeNodes:
    """Add the volumes to a scene, the synthetic PET assembled from its slabs."""
    ct = make_volume_node(scene, review.ct.array, review.ct.affine, f"CT {review.study.image_id}")
    display.show_ct(ct)
    pet = make_pet_node(scene, ct, model=review.metadata.model, version=review.metadata.version)
    for slab in review.slabs:
        fill_slab(pet, slab.pet.array, slab.pet.affine)
    real = None
    if review.real is not None:
        real = make_volume_node(scene, review.real.array, review.real.affine, f"Measured PET {review.study.image_id}")
        declare_suv(real)
    return VolumeNodes(ct, pet, real)


def is_tall(ct: Any) -> bool:
    """Return whether a CT is much longer along the patient than across, as a whole-body CT is."""
    slices, rows, columns = (
        size * spacing for size, spacing in zip(voxels(ct).shape, reversed(ct.GetSpacing()), strict=True)
    )
    return bool(slices > MIN_TALL_RATIO * max(rows, columns))


def apply_display(scene: Any, nodes: VolumeNodes, settings: DisplaySettings) -> None:
    """Show CT and PET in the three planes with these settings."""
    foreground = _foreground(nodes, settings)
    display.show_suv(foreground, window_suv=settings.window_suv, threshold_suv=settings.threshold_suv, colour=COLOUR)
    layouts.show_fused(scene, ct=nodes.ct, pet=foreground, opacity=settings.opacity)


def view_label(scene: Any, tag: str, nodes: VolumeNodes, settings: DisplaySettings) -> str:
    """Return the label of a view: a warning, or that it shows the measured PET."""
    if _foreground(nodes, settings) is nodes.real:
        return node_attributes.MEASURED
    composite = layouts.composite_node(scene, tag)
    return display.view_annotation(scene, composite, synthetic_elsewhere=True)


def colours(scene: Any) -> list[str]:
    """Return CSS colours of the PET, from the lower to the upper end of the window."""
    node = scene.GetNodeByID(display.COLOURS[COLOUR])
    function = node.GetColorTransferFunction()
    low, high = function.GetRange()
    values = (low + (high - low) * step / (BAR_STEPS - 1) for step in range(BAR_STEPS))
    return ["#" + "".join(f"{round(255 * channel):02x}" for channel in function.GetColor(value)) for value in values]


def _foreground(nodes: VolumeNodes, settings: DisplaySettings) -> Any:
    return nodes.real if settings.measured and nodes.real is not None else nodes.pet
