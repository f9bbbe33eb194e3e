"""Background jobs: a worker thread and a queue of its events.

Nothing here depends on Qt: the window starts a job, calls `drain` from a timer, and reads `state`. Only `start`,
`cancel` and `drain` change the state, so all changes happen in the window's thread. A job never raises into it.
"""

from __future__ import annotations

import enum
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import CancelledError, ServerError
from CT2PETLib.i18n import _

CANCEL_TIMEOUT_S = 0.8  # afterwards a thread that cannot be interrupted, such as during a DNS lookup, is abandoned
# In some versions of Slicer other threads run only while the main thread sleeps; a short sleep at each drain lets them
# run in every version, and is imperceptible
YIELD_S = 0.002


class State(enum.Enum):
    """State of a job."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    CANCEL_REQUESTED = "cancel requested"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"

    @property
    def is_over(self) -> bool:
        """Whether the job emits no further events."""
        return self in (State.CANCELLED, State.FAILED, State.DONE)


Emit = Callable[[Any], None]  # passes an event to the window
Work = Callable[[Client, Emit], None]


class Job:
    """Work in a thread of its own that emits events for the window.

    Attributes:
        state: As of the last `drain`.
        message: Why the job failed or was cancelled, for the user; empty otherwise.
        trace: Traceback of an unexpected error, for Slicer's log.
    """

    def __init__(self, client: Client, work: Work) -> None:
        """Create the job without starting it.

        Args:
            client: Client of the server. The job uses a copy, so that cancelling it interrupts no other request.
            work: Called with that copy and a function that emits events; may raise any `ServerError`.
        """
        self.state = State.IDLE
        self.message = ""
        self.trace = ""
        self._client = client.copy()
        self._work = work
        self._events: queue.SimpleQueue[tuple[State, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="CT2PET", daemon=True)
        self._cancel_deadline = 0.0

    def start(self) -> None:
        """Start the thread; further calls have no effect."""
        if self.state is State.IDLE:
            self.state = State.STARTING
            self._thread.start()

    def cancel(self) -> None:
        """Request cancellation and return at once; `drain` reports the end within a second. Results are kept."""
        if self.state is State.IDLE:
            self._end(State.CANCELLED, "")
        if self.state in (State.STARTING, State.RUNNING):
            self.state = State.CANCEL_REQUESTED
            self._cancel_deadline = time.monotonic() + CANCEL_TIMEOUT_S
            self._client.interrupt()

    def drain(self) -> list[Any]:
        """Return the events since the last call, and update `state`. Call it from a timer."""
        if self.state is State.IDLE or self.state.is_over:
            return []
        time.sleep(YIELD_S)
        events = []
        while True:
            try:
                state, event = self._events.get_nowait()
            except queue.Empty:
                break
            if state.is_over:
                self._end(state, str(event))
                break
            if self.state is State.STARTING:
                self.state = State.RUNNING
            if event is not None:
                self._on_event(event)
                events.append(event)
        if self.state is State.CANCEL_REQUESTED and time.monotonic() > self._cancel_deadline:
            self._end(State.CANCELLED, "")
        return events

    def _on_event(self, event: Any) -> None:
        """Handle an event in the window's thread; overridden by jobs that track their progress."""

    def _end(self, state: State, message: str) -> None:
        self.state, self.message = state, message

    def _run(self) -> None:
        try:
            self._emit(None)
            self._work(self._client, self._emit)
            end = (State.DONE, "")
        except CancelledError:
            end = (State.CANCELLED, "")
        except ServerError as error:
            end = (State.FAILED, str(error))
        except Exception as error:  # a bug of this module must not stop the window
            self.trace = traceback.format_exc()
            end = (
                State.FAILED,
                _("Internal error of the CT2PET module ({name}); see the Python console.").format(
                    name=type(error).__name__
                ),
            )
        finally:
            self._client.close()
        self._events.put(end)

    def _emit(self, event: Any) -> None:
        self._events.put((State.RUNNING, event))
