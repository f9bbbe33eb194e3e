"""Work beside the window: a thread that does it, and a queue of what has come of it.

Nothing here knows Qt: the window starts a job, calls `drain` from a timer, and reads `state`. Only `start`, `cancel`
and `drain` change the state, so it never changes behind the window's back; no error ever leaves a job.
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

CANCELLED_TIMEOUT_S = 0.8  # then a thread that does not wake up, as while it looks up a name, is left to itself
# In Slicer other threads run while Python does not, or only while this one sleeps, as its version may be; a moment of
# sleep at each drain lets them run in either, and is far below what an eye notices
YIELD_S = 0.002


class State(enum.Enum):
    """Where a job stands."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    CANCEL_REQUESTED = "cancel requested"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self in (State.CANCELLED, State.FAILED, State.DONE)


Tell = Callable[[Any], None]  # the window, of something that has come
Work = Callable[[Client, Tell], None]


class Job:
    """Work that is done in a thread of its own, and tells the window of each thing that has come of it.

    Attributes:
        state: As of the last `drain`.
        sentence: Why it failed, or was cancelled, for the user; empty otherwise.
        trace: Where an error that nobody expected came from, for Slicer's log.
    """

    def __init__(self, client: Client, work: Work) -> None:
        """Do nothing yet.

        Args:
            client: Of the server; the job asks by a copy, so that cancelling it ends nothing else.
            work: Given that copy, and what to tell with; may raise any `ServerError`.
        """
        self.state = State.IDLE
        self.sentence = ""
        self.trace = ""
        self._client = client.again()
        self._work = work
        self._come: queue.SimpleQueue[tuple[State, Any]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="CT2PET", daemon=True)
        self._given_up_at = 0.0

    def start(self) -> None:
        """Begin; once only, further calls change nothing."""
        if self.state is State.IDLE:
            self.state = State.STARTING
            self._thread.start()

    def cancel(self) -> None:
        """Ask it to end; what has come stays. Returns at once, and `drain` tells within a second that it is over."""
        if self.state is State.IDLE:
            self._end(State.CANCELLED, "")
        if self.state in (State.STARTING, State.RUNNING):
            self.state = State.CANCEL_REQUESTED
            self._given_up_at = time.monotonic() + CANCELLED_TIMEOUT_S
            self._client.interrupt()

    def drain(self) -> list[Any]:
        """Return what has come since the last time, and bring `state` up to date. Call it from a timer."""
        if self.state is State.IDLE or self.state.is_over:
            return []
        time.sleep(YIELD_S)
        come = []
        while True:
            try:
                state, what = self._come.get_nowait()
            except queue.Empty:
                break
            if state.is_over:
                self._end(state, str(what))
                break
            if self.state is State.STARTING:
                self.state = State.RUNNING
            if what is not None:
                self._arrived(what)
                come.append(what)
        if self.state is State.CANCEL_REQUESTED and time.monotonic() > self._given_up_at:
            self._end(State.CANCELLED, "")
        return come

    def _arrived(self, what: Any) -> None:
        """Take note of something, in the thread of the window; for jobs that count."""

    def _end(self, state: State, sentence: str) -> None:
        self.state, self.sentence = state, sentence

    def _run(self) -> None:
        try:
            self._tell(None)
            self._work(self._client, self._tell)
            end = (State.DONE, "")
        except CancelledError:
            end = (State.CANCELLED, "")
        except ServerError as error:
            end = (State.FAILED, str(error))
        except Exception as error:  # an error of this module: the window goes on
            self.trace = traceback.format_exc()
            end = (
                State.FAILED,
                f"An error in the CT2PET module itself ({type(error).__name__}); see the Python console.",
            )
        finally:
            self._client.close()
        self._come.put(end)

    def _tell(self, what: Any) -> None:
        self._come.put((State.RUNNING, what))
