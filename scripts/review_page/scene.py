"""The scene of the page: the volumes as the Slicer extension makes them, in Slicer's own libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from CT2PETLib import display, layouts, marks
from CT2PETLib.volume import fill_slab, make_pet_node, node_of_array, say_suv, voxels

from scripts.review_page.server_data import Review

COLOUR = "PET heat"
BAR_STEPS = 24
TALL = 1.4


@dataclass(frozen=True)
class Shown:
    """The volume nodes; `real` is None where the server has no measured PET."""

    ct: Any
    pet: Any
    real: Any


@dataclass(frozen=True)
class Look:
    """How the PET is shown.

    Attributes:
        opacity: Of the PET over the CT, 0 to 1.
        window_suv: What the first and the last colour mean.
        threshold_suv: Below it the CT alone is seen.
        measured: The real PET is laid over the CT instead of the synthetic one.
    """

    opacity: float = display.OPACITY
    window_suv: tuple[float, float] = display.WINDOW_SUV
    threshold_suv: float = display.THRESHOLD_SUV
    measured: bool = False


def fill(scene: Any, review: Review) -> Shown:
    """Put the volumes into a scene, the PET assembled from its slabs."""
    ct = node_of_array(scene, review.ct.array, review.ct.affine, f"CT {review.study.image_id}")
    display.show_ct(ct)
    pet = make_pet_node(scene, ct, model=review.told.model, version=review.told.version)
    for slab in review.slabs:
        fill_slab(pet, slab.pet.array, slab.pet.affine)
    real = None
    if review.real is not None:
        real = node_of_array(scene, review.real.array, review.real.affine, f"Measured PET {review.study.image_id}")
        say_suv(real)
    return Shown(ct, pet, real)


def is_tall(ct: Any) -> bool:
    """Return whether a CT is much longer along the patient than across, as of a whole body."""
    slices, rows, columns = (
        size * step for size, step in zip(voxels(ct).shape, reversed(ct.GetSpacing()), strict=True)
    )
    return bool(slices > TALL * max(rows, columns))


def apply(scene: Any, shown: Shown, look: Look) -> None:
    """Show the scene in the three planes as it is wished."""
    over = _over(shown, look)
    display.show_suv(over, window_suv=look.window_suv, threshold_suv=look.threshold_suv, colour=COLOUR)
    layouts.show_fused(scene, ct=shown.ct, pet=over, opacity=look.opacity)


def words(scene: Any, tag: str, shown: Shown, look: Look) -> str:
    """Return what the view of a plane must say of what it shows."""
    if _over(shown, look) is shown.real:
        return marks.MEASURED
    composite = layouts.composite_node(scene, tag)
    return display.words_for_view(scene, composite, synthetic_elsewhere=True)


def colours(scene: Any) -> list[str]:
    """Return the colours of the PET from the window's lower end to its upper one, as CSS has them."""
    node = scene.GetNodeByID(display.COLOURS[COLOUR])
    function = node.GetColorTransferFunction()
    low, high = function.GetRange()
    steps = (low + (high - low) * step / (BAR_STEPS - 1) for step in range(BAR_STEPS))
    return ["#" + "".join(f"{round(255 * part):02x}" for part in function.GetColor(step)) for step in steps]


def _over(shown: Shown, look: Look) -> Any:
    return shown.real if look.measured and shown.real is not None else shown.pet
