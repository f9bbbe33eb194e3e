"""Cached checks of pairs: files that have not changed are not checked again."""

from __future__ import annotations

from collections.abc import Sequence

from lib.errors import UndecodableError
from lib.files import fingerprint, same_fingerprint
from lib.pairing.pairs import PairedSeries
from lib.pairing.quality_checks.check_cache import CheckCache, Checked
from lib.pairing.quality_checks.plausibility import PairCheck, check_pair
from lib.types import Progress, no_progress

MEMORY_FILE = "checks.sqlite"  # in the cache folder of the commands; a server has its own in its models folder


def check_pairs(
    pairs: Sequence[PairedSeries], cache: CheckCache, *, progress: Progress = no_progress
) -> tuple[PairCheck, ...]:
    """Return the check of each pair, from the cache if its files are unchanged; the files must be local."""
    checks = []
    for number, paired in enumerate(pairs):
        progress(number, len(pairs), f"measuring {paired.pair.ct.patient_id}")
        checks.append(_checked(paired, cache))
    progress(len(pairs), len(pairs), "measured")
    return tuple(checks)


def _checked(paired: PairedSeries, cache: CheckCache) -> PairCheck:
    files = fingerprint((*paired.pair.ct.files, *paired.pair.pet.files))
    known = cache.known(paired.pair)
    if known is not None and same_fingerprint(known.files, files):
        return known.check
    try:
        check = check_pair(paired)
    except UndecodableError as error:  # would fail again
        check = PairCheck(False, (str(error),))
    cache.remember(paired.pair, Checked(check, files))
    return check
