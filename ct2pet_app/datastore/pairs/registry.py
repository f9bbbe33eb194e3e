"""The pairs of the studies: the permanent split of their patients, and the plausibility check of each pair.

::

    MODELS_FOLDER/split.csv        side of each patient (lib/pairing/split_file.py); users may edit it
    MODELS_FOLDER/checks.sqlite    cache of the checks (lib/pairing/quality_checks/check_cache.py)

A thread of the server assigns the patients of new pairs to a side and checks the pairs, one at a time. In a folder
every pair is checked; of a PACS only those that arrive while the server runs, because their files have to be fetched.
The thread waits while requests compute.
A training checks the remaining pairs first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ct2pet_app.datastore.pairs.counts import PairCounts
from ct2pet_app.datastore.study_index import Studies, StudyIndex
from ct2pet_app.server.concurrency import ForegroundWork
from lib.errors import CT2PETError, DicomError, MemoryLimitError, RemoteError, StudiesError, UndecodableError
from lib.files import fingerprint, same_fingerprint
from lib.learning.model_card.card import patient_digest
from lib.memory import MemoryBudget
from lib.pairing.pairs import PairedSeries
from lib.pairing.quality_checks.check_cache import CheckCache, Checked
from lib.pairing.quality_checks.plausibility import PairCheck, check_bytes, check_pair
from lib.pairing.split import SPLIT_SIDES, Side, Split
from lib.pairing.split_file import Assignments, assign_new, read_split_file
from lib.types import Progress, no_progress

logger = logging.getLogger(__name__)

SPLIT_FILE, CHECKS_FILE = "split.csv", "checks.sqlite"
POLL_INTERVAL_S = 30.0  # without requests that list the studies earlier
MAX_YIELD_S = 60.0  # that a check waits for requests; a busy server checks its pairs, too
CHECKING = "checking a pair of CT and PET"
Key = tuple[str, str]  # UIDs of CT and PET


class PairRegistry:
    """Sides and checks of the pairs of some studies. Several processes may share the files, which are read lazily.

    Args:
        studies: The studies with the pairs.
        folder: The folder of the two files.
        split: Its hash determines the side of a new patient.
        trained_on: Returns the hashes (`patient_digest`) of patients that models were trained on.
        budget: Memory budget of the checks.
    """

    def __init__(
        self,
        studies: Studies,
        folder: Path,
        *,
        split: Split,
        trained_on: Callable[[], Collection[str]] = tuple,
        budget: MemoryBudget | None = None,
    ) -> None:
        self._budget = budget or MemoryBudget(None)
        self.foreground = ForegroundWork()  # requests that the thread waits for
        self.split_file = folder / SPLIT_FILE
        self.adding = threading.Lock()  # held while an upload is stored: identical ones are stored once
        self._studies = studies
        self._split = split
        self._trained_on = trained_on
        self._memory = CheckCache(folder / CHECKS_FILE)
        self._checked: dict[Key, Checked] = {}
        self._read: tuple[tuple[int, int, int], Assignments] | None = None
        self._noted: StudyIndex | None = None
        self._initial: frozenset[Key] | None = None  # pairs at the start of the server
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # -- sides ---------------------------------------------------------------------------------------------------------

    def assignments(self) -> Assignments:
        """Return the current assignments of the split file, by PatientID.

        Raises:
            SplitFileError: The file is invalid.
        """
        try:
            status = self.split_file.stat()
        except FileNotFoundError:
            return {}
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        read = self._read
        if read is None or read[0] != state:
            read = self._read = (state, read_split_file(self.split_file))
        return read[1]

    def assign(self, pairs: Sequence[PairedSeries]) -> dict[str, Side]:
        """Assign a side to patients of these pairs without one, and return all sides by PatientID.

        Raises:
            SplitFileError: The file is invalid; nothing is changed.
            OutputError: It cannot be written.
        """
        known = self.assignments()
        if any(paired.pair.ct.patient_id not in known for paired in pairs):
            digests = self._trained_on()
            known = assign_new(
                self.split_file,
                [paired.pair for paired in pairs],
                self._split,
                was_trained_on=lambda patient: patient_digest(patient) in digests,
            )
        return {patient: assignment.side for patient, assignment in known.items()}

    def sides(self, pairs: Sequence[PairedSeries], split: Split) -> dict[str, Side]:
        """Return each patient's permanent side by PatientID; patients without one are assigned first.

        The split of a training's recipe does not change the assignments; for a split by slice the result is empty.

        Raises:
            SplitFileError: The split file is invalid; nothing is assigned.
            OutputError: It cannot be written.
        """
        if split.unit != "patient":
            logger.info("a split by slice does not assign patients: %s is not used", self.split_file.name)
            return {}
        sides = self.assign(pairs)
        for warning in self.warnings(sides).values():
            logger.warning("%s", warning)
        return sides

    # -- checks --------------------------------------------------------------------------------------------------------

    def check(self, paired: PairedSeries, *, progress: Progress = no_progress) -> Checked:
        """Return the check of a pair; made now, with progress after every slice, if there is none or the files changed.

        Raises:
            RemoteError: The files cannot be fetched from the PACS.
        """
        if (found := self._known(paired)) is not None:
            return found
        pair, files = paired.pair, ""
        try:
            # files are fetched from the PACS before memory is reserved
            local_files = self._studies.local_files(pair.ct, pair.pet, cancelled=self._closed.is_set)
            cancelled = self._closed.is_set
            with local_files, self._budget.reserve(check_bytes(paired), CHECKING, cancelled=cancelled, alone=True):
                # before the check, so that files that change meanwhile are checked again
                files = fingerprint((*pair.ct.files, *pair.pet.files))
                check = check_pair(paired, progress=progress)
        except UndecodableError as error:  # the result is kept: these files always fail
            return self.remember(paired, Checked(PairCheck(False, (str(error),)), files))
        except (DicomError, MemoryLimitError) as error:  # not kept: removed from the PACS, changed there, or too large
            return Checked(PairCheck(False, (str(error),)), "")
        return self.remember(paired, Checked(check, files))

    def remember(self, paired: PairedSeries, checked: Checked) -> Checked:
        """Store a check, also for other processes, and return it."""
        self._memory.remember(paired.pair, checked)
        self._checked[_key(paired)] = checked
        if not checked.check.ok:
            logger.warning("%s: %s", _named(paired), "; ".join(checked.check.reasons))
        return checked

    def accept(self, paired: PairedSeries) -> Checked:
        """Accept a pair regardless of its check, store that, and return the check."""
        return self.remember(paired, replace(self.check(paired), accepted=True))

    def known(self, paired: PairedSeries) -> Checked | None:
        """Return the check of a pair if this process has it in memory."""
        return self._checked.get(_key(paired))

    def usable(self, pairs: Sequence[PairedSeries]) -> tuple[PairedSeries, ...]:
        """Return the pairs to train on: those that pass their check; log those that are left out.

        Raises:
            RemoteError: The files cannot be fetched from the PACS.
        """
        unknown = sum(self._known(paired) is None for paired in pairs)
        if unknown:
            logger.info("checking %d new pairs", unknown)
        used = []
        for paired in pairs:
            checked = self.check(paired)
            if checked.is_used:
                used.append(paired)
            else:
                logger.warning("%s is left out of training: %s", _named(paired), "; ".join(checked.check.reasons))
        return tuple(used)

    def _known(self, paired: PairedSeries) -> Checked | None:
        files = fingerprint((*paired.pair.ct.files, *paired.pair.pet.files))
        found = self._checked.get(_key(paired))
        if found is None or not same_fingerprint(found.files, files):
            found = self._memory.known(paired.pair)
        if found is None or not same_fingerprint(found.files, files):
            self._checked.pop(_key(paired), None)
            return None
        self._checked[_key(paired)] = found
        return found

    # -- status --------------------------------------------------------------------------------------------------------

    def counts(self, pairs: Sequence[PairedSeries]) -> PairCounts:
        """Return the numbers of pairs by check and by side."""
        checked = [self.known(paired) for paired in pairs]
        plausible = sum(one is not None and one.is_used for one in checked)
        unchecked = checked.count(None)
        counted = (len(pairs), plausible, len(pairs) - plausible - unchecked, unchecked)
        try:
            known = self.assignments()
        except CT2PETError as error:
            return PairCounts(*counted, None, None, None, trouble=str(error))
        sides = [known[paired.pair.ct.patient_id].side for paired in pairs if paired.pair.ct.patient_id in known]
        train, validation, test = (sides.count(side) for side in SPLIT_SIDES)
        return PairCounts(*counted, train, validation, test)

    def warnings(self, sides: Mapping[str, Side]) -> dict[str, str]:
        """Return warnings by PatientID about training patients on another side, to which a user may have moved them."""
        digests = self._trained_on()
        return {
            patient: f"patient {patient} is on the {side} side of {SPLIT_FILE}, but a model of this server was "
            "trained on this patient: metrics are too optimistic; move the patient back to train"
            for patient, side in sides.items()
            if side != Side.TRAIN and patient_digest(patient) in digests
        }

    # -- background thread ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Start the thread that handles new pairs; it ends with `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="pairs", daemon=True)
            self._thread.start()

    def note(self, listing: StudyIndex) -> None:
        """Wake the thread if the listing is new."""
        if listing is not self._noted:
            self._noted = listing
            self._wake.set()

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        self._wake.set()

    def update(self) -> None:
        """Assign new patients to a side and check new pairs, until all are checked or a new listing arrives.

        Raises:
            CT2PETError: The studies cannot be listed, or the split file is invalid.
        """
        self._wake.clear()
        listing = self._studies.listing()
        pairs = tuple(listing.pairs.values())
        pending = [paired for paired in pairs if self._known(paired) is None]
        if self._initial is None and listing.is_complete:
            self._initial = frozenset(_key(paired) for paired in pairs)
        try:
            self.assign(pairs)
        finally:
            for paired in pending:
                if self._is_due(paired) and not self._closed.is_set():
                    self._check_alone(paired)
                if self._wake.is_set():
                    break

    def _is_due(self, paired: PairedSeries) -> bool:
        return self._studies.is_local or (self._initial is not None and _key(paired) not in self._initial)

    def _check_alone(self, paired: PairedSeries) -> None:
        try:
            self.check(paired, progress=self.foreground.yielding(MAX_YIELD_S))
        except CT2PETError as error:  # the PACS is unavailable; the next update tries again
            logger.info("%s was not checked: %s", _named(paired), error)

    def _watch(self) -> None:
        last_error = ""
        while not self._closed.is_set():
            try:
                self.update()
                last_error = ""
            except (RemoteError, StudiesError) as error:  # requests that list the studies report it
                logger.debug("the studies cannot be listed: %s", error)
            except CT2PETError as error:
                if str(error) != last_error:
                    logger.error("new pairs cannot be assigned to a side of the split: %s", error)
                last_error = str(error)
            except Exception:  # the thread must go on, or new pairs would never be handled
                logger.exception("updating the pairs failed; the next update follows")
            self._wake.wait(POLL_INTERVAL_S)


def _key(paired: PairedSeries) -> Key:
    return paired.pair.ct.uid, paired.pair.pet.uid


def _named(paired: PairedSeries) -> str:
    return f"the pair of CT {paired.pair.ct.uid} and PET {paired.pair.pet.uid}"
