"""Memory for a volume, initialised in a thread, as the first access to its pages takes most of the time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np


class ZeroBuffer:
    """A float32 array that a thread fills with zeros; does not use MRML."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Allocate the array and start the thread.

        Args:
            shape: (slices, rows, columns).
        """
        self._array: np.ndarray[Any, Any] = np.empty(shape, dtype=np.float32)
        self._thread = threading.Thread(target=lambda: self._array.fill(0), name="CT2PET buffer", daemon=True)
        self._thread.start()

    def take(self) -> np.ndarray[Any, Any]:
        """Return the array, after waiting for the thread, which ends long before a server responds."""
        self._thread.join()
        return self._array
