"""The pairs of the studies: who is on which side of the split for good, and which pairs look like one patient's.

::

    MODELS_FOLDER/split.csv        the sides (lib/pairing/split_file.py); people may edit it
    MODELS_FOLDER/checks.sqlite    what was measured of which pair (lib/pairing/quality_checks/check_cache.py)

A new pair is given its side, then checked, one at a time, in a thread of the server that begins with the first
question. In a folder every pair is checked; of a PACS only those that come while the server runs, because each has to
be fetched. What was not checked until then, the training checks before it learns from it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ct2pet_app.datastore.pairs.counts import PairCounts
from ct2pet_app.datastore.study_index import Studies, StudyIndex
from lib.errors import CT2PETError, DicomError, MemoryLimitError, RemoteError, StudiesError, UndecodableError
from lib.files import fingerprint, same_fingerprint
from lib.learning.model_card.card import patient_digest
from lib.memory import MemoryBudget
from lib.pairing.pairs import PairedSeries
from lib.pairing.quality_checks.check_cache import CheckCache, Checked
from lib.pairing.quality_checks.plausibility import PairCheck, check_bytes, check_pair
from lib.pairing.split import SPLIT_SIDES, Side, Split
from lib.pairing.split_file import Assignments, assign_new, read_split_file

logger = logging.getLogger(__name__)

SPLIT_FILE, CHECKS_FILE = "split.csv", "checks.sqlite"
POLL_INTERVAL_S = 30.0  # where nobody asks anything that would show new pairs earlier
CHECKING = "checking a pair of CT and PET"
Key = tuple[str, str]  # UIDs of CT and PET


class PairRegistry:
    """What is known of the pairs of some studies. Several processes may keep one; nothing is read before it is asked.

    Args:
        studies: Where the pairs are.
        folder: Where the two files lie.
        split: Whose hash decides about a new patient.
        trained_on: Gives the hashes (`patient_digest`) of the patients that models were trained on, who stay there.
        budget: Of the memory that checks take.
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
        self.split_file = folder / SPLIT_FILE
        self.adding = threading.Lock()  # held while an upload is kept, so that the same one twice at once is kept once
        self._studies = studies
        self._split = split
        self._trained_on = trained_on
        self._memory = CheckCache(folder / CHECKS_FILE)
        self._checked: dict[Key, Checked] = {}
        self._read: tuple[tuple[int, int, int], Assignments] | None = None
        self._noted: StudyIndex | None = None
        self._first: frozenset[Key] | None = None  # pairs that were there when the server began
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # -- sides ---------------------------------------------------------------------------------------------------------

    def assignments(self) -> Assignments:
        """Return who is on which side, as the file says now.

        Raises:
            SplitFileError: The file cannot be understood.
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
        """Give every patient of pairs a side, where there is none yet, and return all sides by PatientID.

        Raises:
            SplitFileError: The file cannot be understood; nothing is changed.
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

    def sides(self, pairs: Sequence[PairedSeries], asked: Split) -> dict[str, Side]:
        """Return each patient's side of the split by PatientID; those of pairs who have none get one now, for good.

        What a training asks for decides nothing, so that its word moves nobody; under a split by slice it is empty.

        Raises:
            SplitFileError: The split file cannot be understood; nobody is assigned.
            OutputError: It cannot be written.
        """
        if asked.unit != "patient":
            logger.info("a split by slice has no sides of patients: %s is not used", self.split_file.name)
            return {}
        sides = self.assign(pairs)
        for warning in self.warnings(sides).values():
            logger.warning("%s", warning)
        return sides

    # -- checks --------------------------------------------------------------------------------------------------------

    def check(self, paired: PairedSeries) -> Checked:
        """Return the check of a pair, made now where it was not, or was made on other files.

        Raises:
            RemoteError: The PACS cannot be asked for the files.
        """
        found = self._known(paired)
        if found is not None:
            return found
        pair, files = paired.pair, ""
        try:
            # what the PACS has to send is waited for before memory is reserved
            at_hand = self._studies.at_hand(pair.ct, pair.pet, cancelled=self._closed.is_set)
            cancelled = self._closed.is_set
            with at_hand, self._budget.reserve(check_bytes(paired), CHECKING, cancelled=cancelled, alone=True):
                # before and not after: files that change meanwhile are checked again
                files = fingerprint((*pair.ct.files, *pair.pet.files))
                check = check_pair(paired)
        except UndecodableError as error:  # these files fail again at every start
            return self.remember(paired, Checked(PairCheck(False, (str(error),)), files))
        except (DicomError, MemoryLimitError) as error:  # a PACS no longer has it, or sends something else; too large
            return Checked(PairCheck(False, (str(error),)), "")
        return self.remember(paired, Checked(check, files))

    def remember(self, paired: PairedSeries, checked: Checked) -> Checked:
        """Keep a check, also for other processes, and return it."""
        self._memory.remember(paired.pair, checked)
        self._checked[_key(paired)] = checked
        if not checked.check.ok:
            logger.warning("%s: %s", _named(paired), "; ".join(checked.check.reasons))
        return checked

    def accept(self, paired: PairedSeries) -> Checked:
        """Keep that somebody answers for a pair whatever its check says, and return that."""
        return self.remember(paired, replace(self.check(paired), accepted=True))

    def known(self, paired: PairedSeries) -> Checked | None:
        """Return the check of a pair that this process knows of; reads nothing."""
        return self._checked.get(_key(paired))

    def usable(self, pairs: Sequence[PairedSeries]) -> tuple[PairedSeries, ...]:
        """Return the pairs to train on: those that pass their check, made now where it was not; logs what is left out.

        Raises:
            RemoteError: The PACS cannot be asked for the files.
        """
        unknown = sum(self._known(paired) is None for paired in pairs)
        if unknown:
            logger.info("checking %d pairs that were not checked before", unknown)
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

    # -- what is told --------------------------------------------------------------------------------------------------

    def counts(self, pairs: Sequence[PairedSeries]) -> PairCounts:
        """Return how many pairs there are of each kind."""
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
        """Return what speaks against a patient's side, which somebody may have changed by hand, by PatientID."""
        digests = self._trained_on()
        return {
            patient: f"patient {patient} stands on the {side} side of {SPLIT_FILE}, and a model of this server was "
            "trained on this patient: figures there flatter; move the patient back to train"
            for patient, side in sides.items()
            if side != Side.TRAIN and patient_digest(patient) in digests
        }

    # -- looking by itself ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Begin to look for new pairs in a thread, which ends with `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="pairs", daemon=True)
            self._thread.start()

    def note(self, listing: StudyIndex) -> None:
        """Wake the thread where a listing is new."""
        if listing is not self._noted:
            self._noted = listing
            self._wake.set()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self._wake.set()

    def look(self) -> None:
        """Give new patients their side, and check what is to be checked, until that is done or something new is there.

        Raises:
            CT2PETError: The studies cannot be listed, or the split file cannot be used.
        """
        self._wake.clear()
        listing = self._studies.listing()
        pairs = tuple(listing.pairs.values())
        pending = [paired for paired in pairs if self._known(paired) is None]
        if self._first is None and listing.is_whole:
            self._first = frozenset(_key(paired) for paired in pairs)
        try:
            self.assign(pairs)
        finally:
            for paired in pending:
                if self._is_due(paired) and not self._closed.is_set():
                    self._check_alone(paired)
                if self._wake.is_set():
                    break

    def _is_due(self, paired: PairedSeries) -> bool:
        return self._studies.is_local or (self._first is not None and _key(paired) not in self._first)

    def _check_alone(self, paired: PairedSeries) -> None:
        try:
            self.check(paired)
        except CT2PETError as error:  # a PACS that is gone: the next look tries again
            logger.info("%s was not checked: %s", _named(paired), error)

    def _watch(self) -> None:
        trouble = ""
        while not self._closed.is_set():
            try:
                self.look()
                trouble = ""
            except (RemoteError, StudiesError) as error:  # whoever lists them is told; here it would be every look
                logger.debug("the studies cannot be looked at: %s", error)
            except CT2PETError as error:
                if str(error) != trouble:
                    logger.error("new pairs have no side of the split: %s", error)
                trouble = str(error)
            except Exception:  # a watch that ended would never see a new pair, and nobody would know
                logger.exception("looking for new pairs failed; it goes on")
            self._wake.wait(POLL_INTERVAL_S)


def _key(paired: PairedSeries) -> Key:
    return paired.pair.ct.uid, paired.pair.pet.uid


def _named(paired: PairedSeries) -> str:
    return f"the pair of CT {paired.pair.ct.uid} and PET {paired.pair.pet.uid}"
