"""The pool of devices: each for one caller, every GPU used, memory given back when nobody computes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lib.errors import OperationCancelledError, RecipeError
from lib.networks import device_pool
from lib.networks.device_pool import DevicePool, devices_of

TIMEOUT_S = 30.0  # of a wait that ends at once unless the test fails


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_two_callers_compute_on_two_gpus_and_a_third_waits() -> None:
    pool = DevicePool("auto")
    with pool.device() as first, pool.device() as second:
        assert {first, second} == {torch.device("cuda:0"), torch.device("cuda:1")}
        with pytest.raises(OperationCancelledError), pool.device(lambda: True):
            pytest.fail("a device was given to two callers")
        with ThreadPoolExecutor(1) as waiting:
            third = waiting.submit(lambda: next(iter(_used(pool))))
            pool._give_back(second)
            assert third.result(TIMEOUT_S) == second
        pool._take(lambda: False)


def _used(pool: DevicePool) -> list[torch.device]:
    with pool.device() as device:
        return [device]


@pytest.mark.usefixtures("two_gpus")
def test_memory_is_given_back_once_all_devices_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = threading.Event()
    monkeypatch.setattr(device_pool, "give_back_memory", lambda devices: idle.set() if len(devices) == 2 else None)
    pool = DevicePool("cuda", idle_s=0.0)
    with pool.device():
        with pool.device():
            pass
        assert not idle.is_set()  # the first is still in use
    assert idle.wait(TIMEOUT_S)


def test_an_error_frees_the_device() -> None:
    pool = DevicePool("cpu")
    with pytest.raises(ZeroDivisionError), pool.device() as device:
        assert device == torch.device("cpu")
        raise ZeroDivisionError
    assert _used(pool) == [torch.device("cpu")]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", ("cuda:0", "cuda:1")), ("cuda", ("cuda:0", "cuda:1")), ("cuda:1", ("cuda:1",)), ("cpu", ("cpu",))],
)
def test_a_name_means_all_gpus_or_one(name: str, expected: tuple[str, ...]) -> None:
    assert devices_of(name) == tuple(map(torch.device, expected))


def test_an_unknown_device_is_reported_at_the_first_use() -> None:
    pool = DevicePool("tpu")
    with pytest.raises(RecipeError, match="unknown device 'tpu'"), pool.device():
        pytest.fail("there is no such device")
