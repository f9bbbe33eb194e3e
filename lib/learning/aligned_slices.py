"""Exclude training slices whose PET is misaligned with the CT."""

from __future__ import annotations

import logging
from dataclasses import replace

from lib.errors import PreparedDataError
from lib.learning.dataset import PairsBySide

logger = logging.getLogger(__name__)


def aligned_training(sides: PairsBySide, *, max_shift_mm: float) -> PairsBySide:
    """Return the pairs without training slices that are misaligned by more than a limit; 0 keeps all.

    Validation and test keep theirs: an evaluation reports scores with and without them.

    Raises:
        PreparedDataError: No training slices remain.
    """
    kept = []
    for pair, indices in sides.train:
        misaligned = frozenset(pair.misaligned_slices(limit_mm=max_shift_mm))
        aligned = tuple(index for index in indices if index not in misaligned)
        if len(aligned) < len(indices):
            logger.warning(
                "patient %s: %d of %d slices are excluded from training: the PET is misaligned by more than %g mm "
                "(body %s, diaphragm %s mm); alignment.max_shift_mm = 0 includes them",
                pair.patient_id, len(indices) - len(aligned), len(indices), max_shift_mm,
                list(pair.shift_mm), pair.diaphragm_shift_mm,
            )  # fmt: skip
        if aligned:
            kept.append((pair, aligned))
    if not kept:
        raise PreparedDataError(
            f"the PET of every training pair is misaligned by more than {max_shift_mm:g} mm; check the pairs in a "
            "viewer, and increase alignment.max_shift_mm, or set it to 0 to include all"
        )
    return replace(sides, train=tuple(kept))
