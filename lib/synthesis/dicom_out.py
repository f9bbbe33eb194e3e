"""A model's PET of a CT as a DICOM series: who drew it, in the words `lib/dicom` stores."""

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
    """Return the series that the model's PET of this CT will be, to be filled with the PET; reads headers only.

    Raises:
        MissingAttributeError: The CT lacks what a PET series must have of it (frame of reference, date and time).
        DicomError: A file of the CT is damaged or gone.
    """
    from lib.dicom.write.pet_series import (  # need pydicom, which a machine that only trains may lack
        SourceModel,
        plan_series,
    )

    planned = plan_series(ct, SourceModel(synthesizer.card.name, synthesizer.checksum, lib.__version__))
    members = synthesizer.members if isinstance(synthesizer, Ensemble) else (synthesizer,)
    step_mm = planned.geometry.spacing_mm[0]
    reach = max(context_reach(member.card.network, slice_spacing_mm=step_mm) for member in members)
    return replace(planned, reach=reach)
