"""Requests about the pairs of the studies: list them, accept one, and add one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2pet_app.datastore.pairs.registry import PairRegistry
from ct2pet_app.datastore.pairs.upload import PairUpload, check_incoming, incoming_pair, unpacked
from ct2pet_app.datastore.serializers import describe_pair
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.errors import NotFoundError
from ct2pet_app.json_values import sendable
from ct2pet_app.server.concurrency import IsDisconnected, never, waited_for
from lib.errors import PairingError, RemoteError
from lib.files import fingerprint
from lib.pairing.pairs import PairedSeries
from lib.pairing.quality_checks.check_cache import Checked
from lib.pairing.quality_checks.plausibility import PairCheck


def describe_pairs(datastore: StudiesDatastore) -> list[dict[str, Any]]:
    """Return every pair, with its side of the split and its check.

    Raises:
        SplitFileError: The split file cannot be understood.
    """
    return _described(datastore.pairs, tuple(datastore.listing().pairs.values()))


def accept_pair(datastore: StudiesDatastore, ct_uid: str) -> dict[str, Any]:
    """Accept the pair of a CT regardless of its check, and return the pair.

    Raises:
        NotFoundError: No pair has that CT.
    """
    paired = datastore.listing().pairs.get(ct_uid)
    if paired is None:
        raise NotFoundError(f"no pair has a CT {ct_uid[:80]!r}", code="pair_not_found", ct=ct_uid[:80])
    datastore.pairs.accept(paired)
    return _described(datastore.pairs, (paired,))[0]


def add_pair(
    datastore: StudiesDatastore,
    archives: Mapping[str, Path],
    *,
    despite_checks: bool = False,
    is_disconnected: IsDisconnected = never,
) -> dict[str, Any]:
    """Keep an uploaded CT and PET where the studies are, and return the pair; what is there already stays as it is.

    Args:
        archives: Zips by the form's field: `ct` and `pet`, `pet` alone for a CT that is there, or `study`.
        despite_checks: Whether to accept an implausible pair; the caller is responsible for it.
        is_disconnected: Whether the client has disconnected; then nothing is stored.

    Raises:
        PairingError: Not one CT and one PET that belong together, or not plausible; nothing is kept.
        CT2PETError: No zips, damaged files, or they cannot be kept.
    """
    studies = datastore.studies
    with tempfile.TemporaryDirectory(prefix="pair-") as folder:
        uploaded = unpacked(archives, Path(folder))
        with waited_for(datastore.pairs.adding, is_disconnected):
            incoming = incoming_pair(uploaded, studies.rescan(), studies)
            check = check_incoming(incoming, studies, budget=datastore.budget, is_disconnected=is_disconnected)
            if not check.ok and not despite_checks:
                raise PairingError(
                    f"not kept, the two do not look like one patient's: {'; '.join(check.reasons)}",
                    code="implausible_pair",
                    reasons=list(check.reasons),
                )
            if incoming.new:
                datastore.keep_files(incoming.new)
            paired = _kept(datastore, incoming, check)
    added = {uid: len(files) for uid, files in incoming.new.items()}
    described = _described(datastore.pairs, (paired,))[0]
    return {**described, "added_instances": added, "left_out": sendable(dict(incoming.left_out))}


def _kept(datastore: StudiesDatastore, incoming: PairUpload, check: PairCheck) -> PairedSeries:
    """Return the pair as listed now, after its side was assigned and its check stored."""
    pair = incoming.paired.pair
    paired = datastore.studies.rescan().pairs.get(pair.ct.uid)
    if paired is None or paired.pair.pet.uid != pair.pet.uid:
        raise RemoteError(f"kept, but {datastore.studies.what} does not list the pair yet", code="pair_not_listed_yet")
    datastore.pairs.assign([paired])
    files = fingerprint((*paired.pair.ct.files, *paired.pair.pet.files))
    datastore.pairs.remember(paired, Checked(check, files, accepted=not check.ok))
    return paired


def _described(book: PairRegistry, pairs: Sequence[PairedSeries]) -> list[dict[str, Any]]:
    assignments = book.assignments()
    warnings = book.warnings({patient: one.side for patient, one in assignments.items()})
    return [
        sendable(
            describe_pair(
                paired,
                book.known(paired),
                assignments.get(paired.pair.ct.patient_id),
                warnings.get(paired.pair.ct.patient_id),
            )
        )
        for paired in pairs
    ]
