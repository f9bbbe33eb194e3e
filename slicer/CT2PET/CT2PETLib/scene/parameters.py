"""The panel's parameters that are saved with the scene. They never include an address, a user or a password.

No `from __future__ import annotations`: Slicer evaluates the types. Each name is a `SlicerParameterName` of the .ui
file.
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
    """Colour maps of a PET; the keys of `display.COLOURS`."""

    HEAT = "PET heat"
    DICOM = "PET DICOM"
    INVERTED_GREY = "PET inverted grey"
    HOT_METAL = "PET hot metal"

    def label(self) -> str:
        """Return the label in the panel."""
        return self.value


@parameterNodeWrapper
class CT2PETParameters:
    """The panel's parameters.

    Attributes:
        ct: Input CT.
        synthetic: Synthetic PET to display and compare.
        real: Real PET to compare with.
        real_is_suv: Whether the user confirmed that the values of the real PET are SUVbw.
        segmentation: Segments for SUVmax and SUVmean.
        pair_ct, pair_pet: CT and PET to submit as training pair.
        all_slices: Whether to synthesise all slices; otherwise first_slice to last_slice, counted from 1, inclusive.
        uncertainty: Whether to request the uncertainty map as well.
        allow_unlike: Whether to synthesise the PET of a CT that is unlike those that the model was trained on.
        opacity: Of the PET over the CT, 0 to 1.
        window_suv: SUV of the lowest and the highest colour.
        threshold_suv: Below it the PET is transparent.
        colour: Colour map of the PET.
        epochs: Maximum number of epochs of the next training.
    """

    ct: vtkMRMLScalarVolumeNode
    synthetic: vtkMRMLScalarVolumeNode
    real: vtkMRMLScalarVolumeNode
    real_is_suv: bool = False
    segmentation: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # Slicer requires the None
    pair_ct: vtkMRMLScalarVolumeNode
    pair_pet: vtkMRMLScalarVolumeNode
    all_slices: bool = True
    first_slice: Annotated[int, Minimum(1)] = 1
    last_slice: Annotated[int, Minimum(1)] = 1
    uncertainty: bool = False
    allow_unlike: bool = False
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = OPACITY
    window_suv: Annotated[FloatRange, RangeBounds(0.0, 20.0)] = FloatRange(*WINDOW_SUV)
    threshold_suv: Annotated[float, WithinRange(0.0, 5.0)] = THRESHOLD_SUV
    colour: Colour = Colour.HEAT
    epochs: Annotated[int, WithinRange(1, 1000)] = 20
