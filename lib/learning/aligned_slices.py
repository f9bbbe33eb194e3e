"""The training side without slices whose PET lies too far off their CT: they would teach a model nonsense."""

from __future__ import annotations

import logging
from dataclasses import replace

from lib.errors import PreparedDataError
from lib.learning.dataset import PairsBySide

logger = logging.getLogger(__name__)


def aligned_training(sides: PairsBySide, *, max_shift_mm: float) -> PairsBySide:
    """Return the sides without the training slices that lie off by more than a limit; 0 leaves all.

    Validation and test keep theirs: an evaluation tells the score with and without them.

    Raises:
        PreparedDataError: Nothing is left to train on.
    """
    kept = []
    for pair, indices in sides.train:
        off = frozenset(pair.misaligned_slices(limit_mm=max_shift_mm))
        stay = tuple(index for index in indices if index not in off)
        if len(stay) < len(indices):
            logger.warning(
                "patient %s: %d of %d slices are left out of training: the PET lies off the CT by more than %g mm "
                "(body %s, diaphragm %s mm); alignment.max_shift_mm = 0 keeps them",
                pair.patient_id, len(indices) - len(stay), len(indices), max_shift_mm,
                list(pair.shift_mm), pair.diaphragm_shift_mm,
            )  # fmt: skip
        if stay:
            kept.append((pair, stay))
    if not kept:
        raise PreparedDataError(
            f"the PET of every training pair lies off its CT by more than {max_shift_mm:g} mm; look at them in a "
            "viewer, and set alignment.max_shift_mm higher, or to 0 to keep all"
        )
    return replace(sides, train=tuple(kept))
