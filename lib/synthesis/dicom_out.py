"""The DICOM series of a synthetic PET, labelled with the model that it comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import lib
from lib.networks.slices import context_reach
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import Synthesizer

if TYPE_CHECKING:
    from lib.dicom.write.pet_series import PlannedSeries
    from lib.types import Series


def plan_pet_series(synthesizer: Synthesizer | Ensemble, ct: Series) -> PlannedSeries:
    """Plan the PET series of a CT, without its pixels; reads headers only.

    Raises:
        MissingAttributeError: The CT lacks attributes that a PET series requires (frame of reference, date and time).
        DicomError: A file of the CT is damaged or missing.
    """
    from lib.dicom.write.plan import SourceModel, plan_series  # needs pydicom, which a training machine may lack

    planned = plan_series(ct, SourceModel(synthesizer.card.name, synthesizer.checksum, lib.__version__))
    members = synthesizer.members if isinstance(synthesizer, Ensemble) else (synthesizer,)
    step_mm = planned.geometry.spacing_mm[0]
    reach = max(context_reach(member.card.network, slice_spacing_mm=step_mm) for member in members)
    return replace(planned, reach=reach)
