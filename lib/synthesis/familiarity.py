"""Check whether a CT resembles the CTs that a model was trained on (out-of-distribution detection)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lib.errors import UnlikeTrainingError
from lib.imaging.metal import metal_volume_ml
from lib.imaging.normalize import denormalize_ct
from lib.imaging.orientation import VoxelOrder, canonical_geometry, refuse_oblique
from lib.imaging.volume import Volume
from lib.learning.familiarity.assessment import NOT_RECORDED, UNLIKE, Familiarity, Level, assess, too_few_patients
from lib.learning.familiarity.network_features import bottleneck_features
from lib.learning.familiarity.prepared_profiles import tissue_unit
from lib.learning.familiarity.profile import CTProfile, HeaderFacts, described_slices, examined_slices, profile_of
from lib.learning.familiarity.reference import Reference
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import NetworkSlices, Synthesizer

if TYPE_CHECKING:
    from lib.learning.model_card.card import ModelCard
    from lib.types import Series

UNKNOWN_FACTS = HeaderFacts()


def check_familiarity(
    synthesizer: Synthesizer | Ensemble, ct: Volume, facts: HeaderFacts = UNKNOWN_FACTS
) -> Familiarity:
    """Return how much a CT resembles the training CTs; an ensemble is judged by its first model.

    Args:
        synthesizer: The model; without a reference in its card the result is `unknown`.
        ct: The full CT in HU, in any voxel order, also if only a slab is synthesised.
        facts: Of its header.

    Raises:
        InputError: The CT is oblique.
        CheckpointError: The reference in the model card is damaged.
    """
    member = synthesizer.members[0] if isinstance(synthesizer, Ensemble) else synthesizer
    if (unknown := why_unknown(member.card)) is not None:
        return unknown
    return assess(profile_of_ct(member, ct, facts), Reference.from_json(member.card.familiarity or {}))


def why_unknown(card: ModelCard) -> Familiarity | None:
    """Return the familiarity of all CTs to a model that cannot judge any, `unknown`; None for a model that can.

    Raises:
        CheckpointError: The reference in the model card is damaged.
    """
    if card.familiarity is None:
        return NOT_RECORDED
    reference = Reference.from_json(card.familiarity)
    return None if reference.judges else too_few_patients(reference.patients)


def profile_of_ct(synthesizer: Synthesizer, ct: Volume, facts: HeaderFacts = UNKNOWN_FACTS) -> CTProfile:
    """Return the profile of a CT as the model sees it: the same as that of its prepared arrays.

    Features of the network are left out where it was imported, since its layers are unknown.

    Raises:
        InputError: The CT is oblique.
    """
    refuse_oblique(ct.geometry, "the CT")
    full, recipe = canonical_geometry(ct.geometry), synthesizer.card.recipe
    grid = recipe.grid.on(full)
    array, size = VoxelOrder.of(ct.geometry).canonical(ct.array), (grid.shape[1], grid.shape[2])
    examined = examined_slices(range(len(array)))
    features = None
    if synthesizer.card.external is None:
        features = bottleneck_features(
            synthesizer.cascade,
            NetworkSlices(array, size, recipe.windows),
            described_slices(examined),
            slice_spacing_mm=full.spacing_mm[0],
            tissue_unit=tissue_unit(recipe.windows),
            device=synthesizer.device,
        )
    return profile_of(
        denormalize_ct(NetworkSlices(array, size, recipe.windows)[examined], recipe.windows),
        spacing_mm=grid.spacing_mm,
        length_mm=full.shape[0] * full.spacing_mm[0],
        facts=facts,
        pixel_mm=float(np.sqrt(full.spacing_mm[1] * full.spacing_mm[2])),
        metal_ml=metal_volume_ml(ct),
        features=features,
    )


def refuse_unlike(familiarity: Familiarity, name: str) -> None:
    """Raise an error if a CT is unlike the training CTs.

    Args:
        familiarity: Of the CT.
        name: What the message calls the CT.

    Raises:
        UnlikeTrainingError: It is.
    """
    if familiarity.level is Level.UNLIKE:
        raise UnlikeTrainingError(
            f"{name}: {familiarity.sentence} The model was not trained for such a CT, so its PET would be misleading; "
            "train on CTs like this one",
            reasons=list(familiarity.reasons),
            score=familiarity.score,
            limit=UNLIKE,
        )


def read_header_facts(series: Series) -> HeaderFacts:
    """Return the facts in the header of a CT series; empty where it lacks them or cannot be read."""
    from lib.dicom.acquisition import read_acquisition_details  # needs pydicom, which a training machine may lack

    details = read_acquisition_details(series)
    return HeaderFacts(
        ct_scanner=details.scanner,
        body_part=details.body_part,
        kernel=details.kernel,
        contrast_agent=details.contrast_agent,
        sex=details.sex,
        age_years=details.age_years,
    )
