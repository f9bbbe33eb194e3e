"""Organs of the training patients: the baseline `organ_median` of a model card."""

from __future__ import annotations

from collections.abc import Iterator

from lib.learning.dataset import Entries
from lib.metrics.organs import OrganBaseline, OrganSample, fit_organ_baseline
from lib.pairing.prepared import PreparedSet


def fit_prepared_organs(prepared: PreparedSet, entries: Entries) -> OrganBaseline | None:
    """Return the baseline fitted on these pairs, with one pair in memory at a time; None if none has organs."""

    def samples() -> Iterator[OrganSample]:
        """Yield one pair at a time."""
        for pair, indices in entries:
            arrays, chosen = prepared.arrays(pair), list(indices)
            organs = arrays.organs(chosen)
            if organs is not None:
                yield OrganSample(arrays.suv_bw(chosen), arrays.body(chosen), organs)

    return fit_organ_baseline(samples())
