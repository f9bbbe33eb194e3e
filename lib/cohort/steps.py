"""The three steps of one study: read, synthesise, write. Every engine runs these same functions, in this order.

A step returns its result, or the failure of this or an earlier step. It raises nothing, so that an engine sees an
exception only where a worker was lost.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

from lib.cohort.case import Case
from lib.cohort.comparison import measure_against, suv_histogram, suv_statistics
from lib.cohort.destination import is_stored, write_to_folder, write_to_pacs
from lib.cohort.outcome import Failure, Outcome, StudyResult
from lib.cohort.pacs import fetched_study
from lib.cohort.settings import StudyContext
from lib.dicom.read.volume import read_pet
from lib.dicom.scan.open_ct import read_ct_series
from lib.dicom.write.pet_series import PlannedSeries
from lib.errors import DicomError, InputError
from lib.imaging.volume import Volume
from lib.learning.familiarity.profile import HeaderFacts
from lib.synthesis.dicom_out import plan_labelled_series
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.familiarity import check_familiarity, read_header_facts, refuse_unlike
from lib.synthesis.synthesizer import Synthesizer
from lib.types import Series

NO_PET = "there is no real PET to compare with"


@dataclass(frozen=True, eq=False)
class ReadStudy:
    """A CT in memory, the plan of its PET, and the real PET.

    Attributes:
        ct: The CT, HU.
        facts: Of its header.
        planned: The synthetic series without pixels.
        pet: The real PET, SUVbw; None without one, or where it cannot be read.
        why_no_pet: Why there is none.
        patient_id: Of the CT, to find the patient's side of the model's split.
        seconds: Duration of the step.
    """

    ct: Volume
    facts: HeaderFacts
    planned: PlannedSeries
    pet: Volume | None
    why_no_pet: str
    patient_id: str
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class SynthesizedStudy:
    """A synthetic PET, SUVbw, on the CT's grid.

    Attributes:
        familiarity, warning: How much the CT resembles the training CTs, and what to tell readers.
        worker, runtime: Where and how it was synthesised.
        seconds: Duration of the step.
    """

    pet: Volume
    familiarity: str
    warning: str
    worker: str
    runtime: str
    seconds: float


@dataclass(frozen=True)
class StoredBefore:
    """A study whose result the PACS has already, so that nothing is synthesised."""

    result: StudyResult
    seconds: float


Read = ReadStudy | StoredBefore | Failure
Synthesized = SynthesizedStudy | StoredBefore | Failure


def read_study(case: Case, context: StudyContext) -> Read:
    """Return a study in memory; of a PACS, its files are fetched first."""
    began, settings = time.perf_counter(), context.settings
    try:
        with ExitStack() as held:
            ct, pet = _series_of(case, context, held)
            planned = plan_labelled_series(context.label, ct)
            if settings.store and settings.pacs is not None and is_stored(planned, settings.pacs):
                result = StudyResult(planned.uid, len(planned.slices), settings.pacs.url, already_stored=True)
                return StoredBefore(result, time.perf_counter() - began)
            real, why_no_pet = _read_real(pet)
            volume, facts = read_ct_series(ct), read_header_facts(ct)
    except Exception as error:
        return Failure.of(error, "read")
    return ReadStudy(volume, facts, planned, real, why_no_pet, ct.patient_id, time.perf_counter() - began)


def synthesize_study(
    case: Case, study: Read, context: StudyContext, synthesizer: Synthesizer | Ensemble
) -> Synthesized:
    """Return the synthetic PET of a study that was read, unless the CT is unlike the training CTs."""
    if not isinstance(study, ReadStudy):
        return study
    began = time.perf_counter()
    try:
        familiarity = check_familiarity(synthesizer, study.ct, study.facts)
        if not context.settings.allow_unlike:
            refuse_unlike(familiarity, f"series {case.ct_uid}")
        pet = synthesizer.apply(study.ct)
    except Exception as error:
        return Failure.of(error, "synthesise")
    return SynthesizedStudy(
        pet=pet,
        familiarity=str(familiarity.level),
        warning=familiarity.warning,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        runtime=str(synthesizer.runtime),
        seconds=time.perf_counter() - began,
    )


def finish_study(case: Case, study: Read, synthesized: Synthesized, context: StudyContext) -> Outcome:
    """Write or store the synthetic PET, compare it with the real one, and return the outcome."""
    if isinstance(synthesized, StoredBefore):
        return Outcome(case.ct_uid, synthesized.result, {"read": synthesized.seconds})
    if isinstance(synthesized, Failure):
        return Outcome(case.ct_uid, synthesized)
    assert isinstance(study, ReadStudy)
    seconds = {"read": study.seconds, "synthesise": synthesized.seconds}
    began = time.perf_counter()
    try:
        output = _write(study, synthesized, context)
        seconds["write"] = time.perf_counter() - began
        result = _describe(study, synthesized, context, output)
        seconds["compare"] = time.perf_counter() - began - seconds["write"]
    except Exception as error:
        return Outcome(case.ct_uid, Failure.of(error, "write"), seconds, synthesized.worker, synthesized.runtime)
    return Outcome(case.ct_uid, result, seconds, synthesized.worker, synthesized.runtime)


def _series_of(case: Case, context: StudyContext, held: ExitStack) -> tuple[Series, Series | None]:
    """Return the CT and its real PET, with their files on this machine."""
    if case.ct is not None:
        return case.ct.series(), None if case.pet is None else case.pet.series()
    if context.settings.pacs is None:
        raise DicomError(f"series {case.ct_uid}: was listed in a PACS; give the address of the PACS again")
    fetched = held.enter_context(
        fetched_study(context.settings.pacs, case.ct_uid, case.study_uid, context.settings.filters)
    )
    return fetched.ct, fetched.pet


def _read_real(pet: Series | None) -> tuple[Volume | None, str]:
    """Return the real PET, SUVbw, or the reason why there is none to compare with."""
    if pet is None:
        return None, NO_PET
    try:
        return read_pet(pet), ""
    except InputError as error:  # the CT can be used without it
        return None, str(error)


def _write(study: ReadStudy, synthesized: SynthesizedStudy, context: StudyContext) -> str:
    """Write or store the series, and return where it is."""
    series = replace(study.planned, warning=synthesized.warning).fill(synthesized.pet)
    settings = context.settings
    if settings.store and settings.pacs is not None:
        return write_to_pacs(series, settings.pacs)
    return write_to_folder(series, settings.out)


def _describe(study: ReadStudy, synthesized: SynthesizedStudy, context: StudyContext, output: str) -> StudyResult:
    """Return the record of a series that was written."""
    metrics, why = {}, study.why_no_pet
    if study.pet is not None:
        try:
            metrics = measure_against(study.pet, synthesized.pet, study.ct, context.card)
        except InputError as error:  # the synthetic PET is usable without metrics
            why = str(error)
    return StudyResult(
        series_uid=study.planned.uid,
        slices=synthesized.pet.geometry.shape[0],
        output=output,
        suv=suv_statistics(synthesized.pet),
        histogram=suv_histogram(synthesized.pet),
        scanner=study.facts.ct_scanner,
        body_part=study.facts.body_part,
        familiarity=synthesized.familiarity,
        warning=synthesized.warning,
        side=context.card.side_of(study.patient_id).value if metrics else "",
        metrics=metrics,
        why_no_metrics=why,
    )
