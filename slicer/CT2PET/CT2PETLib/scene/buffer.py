"""Room for a volume, made beside the window: the first touch of its memory is what takes the time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np


class ZeroBuffer:
    """Zeros, float32, that a thread begins to write at once; nothing of the scene is touched."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin.

        Args:
            shape: (slices, rows, columns).
        """
        self._array: np.ndarray[Any, Any] = np.empty(shape, dtype=np.float32)
        self._thread = threading.Thread(target=lambda: self._array.fill(0), name="CT2PET room", daemon=True)
        self._thread.start()

    def take(self) -> np.ndarray[Any, Any]:
        """Return the array; waits in case the thread is not done, which it is long before a server answers."""
        self._thread.join()
        return self._array
