"""The DICOM series of a synthetic PET, labelled with the model that it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import lib
from lib.networks.cascade import NetworkConfig
from lib.networks.slices import context_reach
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import Synthesizer

if TYPE_CHECKING:
    from lib.dicom.write.pet_series import PlannedSeries
    from lib.types import Series


@dataclass(frozen=True)
class ModelLabel:
    """What a series says of its model, and the UIDs depend on; without the network, so that any process can plan.

    Attributes:
        name, checksum: Of the model.
        networks: Of the model, or of each member of an ensemble.
    """

    name: str
    checksum: str
    networks: tuple[NetworkConfig, ...]

    @classmethod
    def of(cls, synthesizer: Synthesizer | Ensemble) -> ModelLabel:
        """Return the label of a loaded model."""
        members = synthesizer.members if isinstance(synthesizer, Ensemble) else (synthesizer,)
        networks = tuple(member.card.network for member in members)
        return cls(synthesizer.card.name, synthesizer.checksum, networks)


def plan_pet_series(synthesizer: Synthesizer | Ensemble, ct: Series) -> PlannedSeries:
    """Plan the PET series of a CT, without its pixels; reads headers only.

    Raises:
        MissingAttributeError: The CT lacks attributes that a PET series requires (frame of reference, date and time).
        DicomError: A file of the CT is damaged or missing.
    """
    return plan_labelled_series(ModelLabel.of(synthesizer), ct)


def plan_labelled_series(label: ModelLabel, ct: Series) -> PlannedSeries:
    """Plan the PET series of a CT for the model of a label; errors as of `plan_pet_series`."""
    from lib.dicom.write.plan import SourceModel, plan_series  # needs pydicom, which a training machine may lack

    planned = plan_series(ct, SourceModel(label.name, label.checksum, lib.__version__))
    step_mm = planned.geometry.spacing_mm[0]
    reach = max(context_reach(network, slice_spacing_mm=step_mm) for network in label.networks)
    return replace(planned, reach=reach)
