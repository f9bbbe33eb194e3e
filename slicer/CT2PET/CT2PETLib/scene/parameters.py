"""What the panel remembers in the scene, so that a saved scene opens as it was. Never an address, a user or a password.

No `from __future__ import annotations`: Slicer reads the types themselves. Each name is a `SlicerParameterName` of the
.ui file.
"""

import enum
from typing import Annotated, Union

from slicer.parameterNodeWrapper import (
    FloatRange,
    Minimum,
    RangeBounds,
    WithinRange,
    parameterNodeWrapper,
)

from CT2PETLib.scene.display import OPACITY, THRESHOLD_SUV, WINDOW_SUV
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)


class Colour(enum.Enum):
    """Colours of a PET; the names of `display.COLOURS`."""

    HEAT = "PET heat"
    DICOM = "PET DICOM"
    INVERTED_GREY = "PET inverted grey"
    HOT_METAL = "PET hot metal"

    def label(self) -> str:
        """Return what the user reads."""
        return self.value


@parameterNodeWrapper
class CT2PETParameters:
    """The panel's choices.

    Attributes:
        ct: The CT to draw from.
        synthetic: The synthetic PET that is shown and compared.
        real: The real PET beside it.
        real_is_suv: The user says that the real PET's numbers are SUVbw.
        segmentation: Where SUVmax and SUVmean are wanted.
        pair_ct, pair_pet: What is submitted as a new pair.
        all_slices: Draw the whole CT; else the slices first_slice to last_slice, counted from 1, both included.
        uncertainty: Ask for the map of errors to expect, too.
        opacity: Of the PET over the CT, 0 to 1.
        window_suv: Lowest and highest colour.
        threshold_suv: Below it the CT alone is seen.
        colour: Of the PET.
        epochs: Of the next training.
    """

    ct: vtkMRMLScalarVolumeNode
    synthetic: vtkMRMLScalarVolumeNode
    real: vtkMRMLScalarVolumeNode
    real_is_suv: bool = False
    segmentation: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # Slicer wants the None
    pair_ct: vtkMRMLScalarVolumeNode
    pair_pet: vtkMRMLScalarVolumeNode
    all_slices: bool = True
    first_slice: Annotated[int, Minimum(1)] = 1
    last_slice: Annotated[int, Minimum(1)] = 1
    uncertainty: bool = False
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = OPACITY
    window_suv: Annotated[FloatRange, RangeBounds(0.0, 20.0)] = FloatRange(*WINDOW_SUV)
    threshold_suv: Annotated[float, WithinRange(0.0, 5.0)] = THRESHOLD_SUV
    colour: Colour = Colour.HEAT
    epochs: Annotated[int, WithinRange(1, 1000)] = 20
