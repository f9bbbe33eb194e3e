"""Text of a job's progress, below the progress bar of section "Synthesise"."""

from __future__ import annotations

from CT2PETLib.i18n import _
from CT2PETLib.jobs.events import ConnectionLost
from CT2PETLib.jobs.job import Job, State
from CT2PETLib.jobs.jobs import SynthesisJob
from CT2PETLib.panel.qt_helpers import format_duration

WAITING = _("Waiting for the first slices …")
KEPT = _("Received slices are kept.")
UPLOAD_TEXTS = {
    State.CANCELLED: _("Cancelled. The CT was not sent."),
    State.FAILED: _("The CT was not sent."),
    State.DONE: _("The CT was sent."),
}


def synthesis_text(job: SynthesisJob) -> str:
    """Return the state of a synthesis, or the estimate of the remaining time."""
    if job.state is State.DONE:
        return _("Done.")
    if job.state is State.CANCEL_REQUESTED:
        return _("Cancelling …")
    if job.state is State.CANCELLED:
        return f"{_('Cancelled.')} {KEPT}" if has_slices(job) else _("Cancelled before the first slices arrived.")
    if job.state is State.FAILED:
        return f"{_('Incomplete.')} {KEPT}" if has_slices(job) else _("No slice has arrived.")
    left_s = job.seconds_left
    return WAITING if left_s is None else _("About {time} left.").format(time=format_duration(max(1.0, left_s)))


def failure_text(job: Job) -> str:
    """Return why a job failed, and whether something of it remains."""
    kept = isinstance(job, SynthesisJob) and has_slices(job)
    return f"{job.message} {KEPT}" if kept else job.message


def retry_text(event: ConnectionLost, job: Job) -> str:
    """Return why the connection was lost, when it is tried again, and whether slices have arrived."""
    text = _("{message} Trying again in {time}.").format(
        message=event.message, time=format_duration(max(1.0, event.retry_in_s))
    )
    return f"{text} {KEPT}" if isinstance(job, SynthesisJob) and has_slices(job) else text


def has_slices(job: SynthesisJob) -> bool:
    """Return whether a slice has arrived."""
    return job.fraction > 0
