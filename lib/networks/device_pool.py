"""The devices that networks compute on: every GPU, or the CPU, each for one caller at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from lib.errors import OperationCancelledError
from lib.networks.precision import choose_device
from lib.types import never_cancelled

logger = logging.getLogger(__name__)

POLL_S = 0.25  # how often a waiting caller checks whether it was cancelled
IDLE_S = 60.0  # after which unused memory of the GPUs is given back, so that other programs can use it


class DevicePool:
    """Gives each caller a device that no other caller of this process computes on.

    The devices are looked up at the first use, since a constructor of the server must not touch CUDA.

    Args:
        device: `auto` or `cuda` for every GPU, where there are any; otherwise the name of one device.
        idle_s: Time without a caller after which the GPUs' unused memory is given back.
    """

    def __init__(self, device: str, *, idle_s: float = IDLE_S) -> None:
        self._device, self._idle_s = device, idle_s
        self._changed = threading.Condition()
        self._free: list[torch.device] | None = None
        self._all: tuple[torch.device, ...] = ()
        self._timer: threading.Timer | None = None

    @contextmanager
    def device(self, cancelled: Callable[[], bool] = never_cancelled) -> Iterator[torch.device]:
        """Yield a free device, after waiting for one.

        Args:
            cancelled: Polled while waiting.

        Raises:
            OperationCancelledError: The caller was cancelled before a device was free.
            RecipeError: Unknown device.
        """
        device = self._take(cancelled)
        try:
            yield device
        finally:
            self._give_back(device)

    def _take(self, cancelled: Callable[[], bool]) -> torch.device:
        with self._changed:
            if self._free is None:
                self._all = devices_of(self._device)
                self._free = list(self._all)
            while not self._free:
                self._changed.wait(POLL_S)
                if not self._free and cancelled():
                    raise OperationCancelledError("cancelled while waiting for a device")
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return self._free.pop(0)

    def _give_back(self, device: torch.device) -> None:
        with self._changed:
            assert self._free is not None
            self._free.append(device)
            self._free.sort(key=self._all.index)  # the first one again: its caches are warm
            if len(self._free) == len(self._all) and device.type == "cuda":
                self._timer = threading.Timer(self._idle_s, give_back_memory, (self._all,))
                self._timer.daemon = True
                self._timer.start()
            self._changed.notify()


def devices_of(name: str) -> tuple[torch.device, ...]:
    """Return the devices of a name: all GPUs for `auto` or `cuda` where there are any, otherwise one device.

    Raises:
        RecipeError: This machine has no such device.
    """
    chosen = choose_device(name)
    if chosen.type == "cuda" and ":" not in str(chosen):
        return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return (chosen,)


def give_back_memory(devices: Sequence[torch.device]) -> None:
    """Return memory that no tensor uses to the GPUs; weights and captured graphs stay."""
    before = sum(torch.cuda.memory_reserved(device) for device in devices)
    torch.cuda.empty_cache()
    after = sum(torch.cuda.memory_reserved(device) for device in devices)
    logger.info("idle: gave back %d MB of GPU memory, %d MB are in use", (before - after) // 10**6, after // 10**6)
