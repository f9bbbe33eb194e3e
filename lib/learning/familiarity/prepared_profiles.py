"""Profiles of prepared CTs, and the reference that a training stores in the model card."""

from __future__ import annotations

import numpy as np
import torch

from lib.imaging.normalize import Windows, normalize_ct
from lib.learning.dataset import Entries
from lib.learning.familiarity.network_features import bottleneck_features
from lib.learning.familiarity.profile import (
    TISSUE_HU,
    CTProfile,
    HeaderFacts,
    described_slices,
    examined_slices,
    profile_of,
)
from lib.learning.familiarity.reference import MIN_PATIENTS, Reference, fit_reference
from lib.networks.cascade import Cascade
from lib.pairing.prepared import PreparedPair, PreparedSet


def fit_prepared_reference(
    cascade: Cascade, prepared: PreparedSet, entries: Entries, *, device: torch.device
) -> Reference:
    """Return the reference of the CTs of these pairs; without their profiles if there are too few patients."""
    patients = {pair.patient_id for pair, _ in entries}
    if len(patients) < MIN_PATIENTS:
        return Reference(len(patients))
    return fit_reference(
        [
            (pair.patient_id, prepared_profile(cascade, prepared, pair, indices, device=device))
            for pair, indices in entries
        ]
    )


def prepared_profile(
    cascade: Cascade, prepared: PreparedSet, pair: PreparedPair, indices: tuple[int, ...], *, device: torch.device
) -> CTProfile:
    """Return the profile of a prepared CT, of the given slices."""
    arrays, examined = prepared.arrays(pair), examined_slices(indices)
    features = bottleneck_features(
        cascade,
        arrays.ct_unit(),
        described_slices(examined),
        slice_spacing_mm=pair.spacing_mm[0],
        tissue_unit=tissue_unit(prepared.preparation.windows),
        device=device,
    )
    facts = HeaderFacts(
        ct_scanner=pair.ct_scanner,
        body_part=pair.body_part,
        kernel=pair.ct_kernel,
        contrast_agent=pair.contrast_agent,
        sex=pair.sex,
        age_years=pair.age_years,
    )
    return profile_of(
        arrays.ct_hu(examined),
        spacing_mm=pair.spacing_mm,
        length_mm=(pair.ct_slices[-1] - pair.ct_slices[0] + 1) * pair.spacing_mm[0],
        facts=facts,
        pixel_mm=pair.ct_pixel_mm,
        metal_ml=pair.metal_ml,
        features=features,
    )


def tissue_unit(windows: Windows) -> float:
    """Return the unit value of the HU above which a pixel is tissue."""
    return float(normalize_ct(np.array([TISSUE_HU], np.float32), windows)[0])
