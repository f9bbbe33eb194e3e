"""Organs of the training patients: the baseline `organ_median` of a model card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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


def fit_card_organs(prepared: PreparedSet, entries: Entries) -> dict[str, Any] | None:
    """Return `fit_prepared_organs` as plain values, for a model card."""
    baseline = fit_prepared_organs(prepared, entries)
    return None if baseline is None else baseline.to_json()
