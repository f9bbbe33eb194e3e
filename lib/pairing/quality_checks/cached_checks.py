"""Checks of pairs that are made once: what was measured of the same files before is taken from the memory."""

from __future__ import annotations

from collections.abc import Sequence

from lib.errors import UndecodableError
from lib.files import fingerprint, same_fingerprint
from lib.pairing.pairs import PairedSeries
from lib.pairing.quality_checks.check_cache import CheckCache, Checked
from lib.pairing.quality_checks.plausibility import PairCheck, check_pair
from lib.types import Progress, no_progress

MEMORY_FILE = "checks.sqlite"  # in the cache that the commands share; a server keeps its own beside its models


def check_pairs(
    pairs: Sequence[PairedSeries], memory: CheckCache, *, progress: Progress = no_progress
) -> tuple[PairCheck, ...]:
    """Return the check of each pair, made now where the memory has none of the same files; theirs must lie at hand."""
    checks = []
    for number, paired in enumerate(pairs):
        progress(number, len(pairs), f"measuring {paired.pair.ct.patient_id}")
        checks.append(_checked(paired, memory))
    progress(len(pairs), len(pairs), "measured")
    return tuple(checks)


def _checked(paired: PairedSeries, memory: CheckCache) -> PairCheck:
    files = fingerprint((*paired.pair.ct.files, *paired.pair.pet.files))
    known = memory.known(paired.pair)
    if known is not None and same_fingerprint(known.files, files):
        return known.check
    try:
        check = check_pair(paired)
    except UndecodableError as error:  # these files fail again every time
        check = PairCheck(False, (str(error),))
    memory.remember(paired.pair, Checked(check, files))
    return check
