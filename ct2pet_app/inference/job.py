"""One inference whose memory is reserved, and its steps."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass

from ct2pet_app.datastore.ct_source import CTSource, OpenedCT
from ct2pet_app.errors import RequestError
from ct2pet_app.inference.request import InferOptions
from ct2pet_app.inference.result_metadata import Stopwatch
from ct2pet_app.server.concurrency import IsDisconnected
from lib.dicom.write.pet_series import PlannedSeries, SyntheticSeries
from lib.errors import InputError
from lib.imaging.volume import Volume
from lib.learning.familiarity.assessment import Familiarity
from lib.learning.familiarity.profile import HeaderFacts
from lib.synthesis.dicom_out import plan_pet_series
from lib.synthesis.familiarity import check_familiarity, read_header_facts, refuse_unlike, why_unknown
from lib.synthesis.synthesizer import Synthesizer
from lib.synthesis.uncertainty import apply_with_uncertainty
from lib.types import Progress

logger = logging.getLogger(__name__)

Store = Callable[[SyntheticSeries], None]
MAX_PLANS = 4  # CTs whose planned series is remembered; the headers of 300 slices take some megabytes
MAX_CHECKS = 64  # CTs whose familiarity is remembered: a client requests one CT in many slabs


@dataclass(frozen=True)
class InferenceJob:
    """An inference whose memory is reserved.

    Attributes:
        key: Of the CT and the state of its files; None for an upload, which is read once.
        familiarity: Of the CT, if it is known before the CT is read.
    """

    synthesizer: Synthesizer
    source: CTSource
    opened: OpenedCT
    options: InferOptions
    store: Store
    is_disconnected: IsDisconnected
    watch: Stopwatch
    why_no_metrics: str
    key: Hashable | None
    familiarity: Familiarity | None


class FamiliarityChecks:
    """Checks whether CTs resemble those that a model was trained on, and remembers the latest results."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Familiarity] = OrderedDict()

    def known(self, synthesizer: Synthesizer, key: Hashable | None) -> Familiarity | None:
        """Return the familiarity of a CT that is remembered or unknown for any CT; None if the CT has to be checked."""
        return self._known.get((synthesizer.checksum, key)) or why_unknown(synthesizer.card)

    def check(self, job: InferenceJob, ct: Volume) -> Familiarity:
        """Return the familiarity of a job's CT; the caller may use the network.

        Raises:
            UnlikeTrainingError: The CT is unlike the training CTs, and the request does not allow this.
        """
        key = (job.synthesizer.checksum, job.key)
        familiarity = job.familiarity
        if familiarity is None:
            facts = HeaderFacts() if job.opened.series is None else read_header_facts(job.opened.series)
            familiarity = check_familiarity(job.synthesizer, ct, facts)
            if job.key is not None:
                self._known[key] = familiarity
                while len(self._known) > MAX_CHECKS:
                    self._known.popitem(last=False)
        if not job.options.allow_unlike:
            refuse_unlike(
                familiarity, "the uploaded CT" if job.source.image_id is None else f"CT {job.source.image_id}"
            )
        return familiarity


class PlannedSeriesCache:
    """The DICOM series planned last: a client requests one CT in many slabs, whose headers are read once."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, PlannedSeries] = OrderedDict()

    def planned(self, job: InferenceJob) -> PlannedSeries:
        """Return the series to fill; missing attributes of the CT are reported before the synthesis.

        Raises:
            RequestError: The CT is an upload.
            MissingAttributeError, DicomError: As `plan_pet_series`.
        """
        synthesizer, ct = job.synthesizer, job.source.ct
        if ct is None:
            raise RequestError(
                "a DICOM series needs a CT series in the datastore: an upload does not belong to a study; "
                "add the study to the datastore, or request .nrrd",
                code="upload_without_study",
            )
        key = (synthesizer.checksum, synthesizer.card.name, job.key)
        planned = self._known.get(key)
        if planned is None:
            with job.source.local_files(ct):
                planned = self._known[key] = plan_pet_series(synthesizer, ct)
            while len(self._known) > MAX_PLANS:
                self._known.popitem(last=False)
        return planned


def fetch_real_pet(source: CTSource, is_disconnected: IsDisconnected, held: ExitStack) -> str:
    """Fetch the real PET's files and keep them in `held`; return the reason if that fails, or an empty string."""
    assert source.pet is not None  # checked by `reason_without_metrics`
    try:
        held.enter_context(source.local_files(source.pet, cancelled=is_disconnected))
    except InputError as error:  # the synthetic PET is usable without metrics
        logger.warning("no metrics for %s: %s", source.name, error)
        return str(error)
    return ""


def predict(
    synthesizer: Synthesizer, ct: Volume, options: InferOptions, progress: Progress
) -> tuple[Volume, Volume | None]:
    """Return the synthetic PET, and the map of expected errors if it is requested."""
    if options.uncertainty == "no":
        return synthesizer.apply(ct, options.slices, progress=progress), None
    return apply_with_uncertainty(synthesizer, ct, options.slices, progress=progress)
