"""Whether a freshly trained model takes the place of the published one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ct2pet_app.models import ModelStore
from lib.dicom.read import read_ct, read_pet
from lib.errors import CheckpointError, InputError
from lib.evaluation.compare import align
from lib.imaging.grid import Grid
from lib.learning.card import patient_digest
from lib.learning.checkpoint import read_card
from lib.pairing.pairs import PairedSeries
from lib.synthesis.synthesizer import Synthesizer
from lib.types import AtHand, lie_here

logger = logging.getLogger(__name__)

MOST_COMPARED = 8  # patients: enough to see which is worse, few enough to wait for


@dataclass(frozen=True)
class Verdict:
    """What became of a trained model, and why."""

    published: bool
    verdict: str


def judge(
    name: str,
    candidate: Path,
    models: ModelStore,
    pairs: Sequence[PairedSeries],
    *,
    device: str = "auto",
    at_hand: AtHand = lie_here,
) -> Verdict:
    """Return whether a candidate is to be published: unless it is worse on the same patients than what is published.

    The measure is the mean absolute error of SUV inside the body, on the candidate's grid, mean over at most 8
    patients that neither model was trained on. The words end with how the candidate stands beside the trivial
    predictors; that decides nothing.
    """
    verdict = _compare(name, candidate, models, pairs, device=device, at_hand=at_hand)
    return replace(verdict, verdict=f"{verdict.verdict}. {read_card(candidate).standing.sentence}")


def _compare(
    name: str, candidate: Path, models: ModelStore, pairs: Sequence[PairedSeries], *, device: str, at_hand: AtHand
) -> Verdict:
    try:
        published = models.published(name)
    except CheckpointError as error:
        return Verdict(True, f"published; what was there could not be used ({error})")
    if published is None:
        return Verdict(True, "published, the first of its name")
    new, old = (Synthesizer.load(path, device=device) for path in (candidate, published.path))
    seen = {*new.card.training.patients, *old.card.training.patients}
    by_digest = {patient_digest(paired.pair.ct.patient_id): paired for paired in reversed(pairs)}
    unseen = [by_digest[digest] for digest in sorted(set(by_digest) - seen)][:MOST_COMPARED]
    errors = [_errors_suv(new, old, paired, at_hand) for paired in unseen]
    measured = np.array([both for both in errors if both is not None])
    if not len(measured):
        return Verdict(True, "published; there is no patient neither model has seen, so the two were not compared")
    new_suv, old_suv = measured.mean(axis=0)
    words = f"mean error {new_suv:.3f} SUV in the body, of the published one {old_suv:.3f}, {len(measured)} patient(s)"
    if new_suv <= old_suv:
        return Verdict(True, f"published: {words}")
    return Verdict(False, f'not published, it is worse: {words}; ask with {{"publish": "always"}} to replace it anyway')


def _errors_suv(
    new: Synthesizer, old: Synthesizer, paired: PairedSeries, at_hand: AtHand
) -> tuple[float, float] | None:
    """Return both models' mean absolute error in the body of one patient, or None where it cannot be measured."""
    try:
        grid: Grid = new.card.recipe.grid
        with at_hand(paired.pair.ct, paired.pair.pet):
            ct, pet = read_ct(paired.pair.ct), read_pet(paired.pair.pet)
        aligned = [align(model.apply(ct), ct=ct, pet=pet, grid=grid) for model in (new, old)]
    except InputError as error:
        logger.warning("patient %s is left out of the comparison: %s", paired.pair.ct.patient_id, error)
        return None
    if not aligned[0].body.any():
        return None
    first, second = (
        float(np.abs(volumes.synthetic_suv - volumes.real_suv)[volumes.body].mean()) for volumes in aligned
    )
    return first, second
