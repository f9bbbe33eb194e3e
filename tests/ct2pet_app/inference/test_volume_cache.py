"""CTs that were read a moment ago are not read again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ct2pet_app.errors import ClientDisconnectedError
from ct2pet_app.inference.volume_cache import VolumeCache, state_of
from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume


def volume(slices: int = 1) -> Volume:
    """A volume of 4,000 bytes a slice."""
    return Volume(np.zeros((slices, 10, 100), np.float32), Geometry((slices, 10, 100), np.eye(4)), Unit.HU)


def used(recent: VolumeCache, key: str, read: Callable[[], Volume] = volume) -> Volume:
    """Use a volume for a moment, and return it."""
    with recent.volume(key, read) as given:
        return given


def test_a_volume_is_read_once_and_given_out_read_only() -> None:
    recent, read = VolumeCache(), []
    for _ in range(3):
        given = used(recent, "a", lambda: read.append(1) or volume())  # type: ignore[func-returns-value]
    assert read == [1]
    with pytest.raises(ValueError, match="read-only"):
        given.array[0] = 1


def test_concurrent_requests_share_one_read() -> None:
    recent, go, begun, read = VolumeCache(), threading.Event(), threading.Event(), []

    def slow() -> Volume:
        begun.set()
        assert go.wait(30)
        read.append(1)
        return volume()

    askers = [threading.Thread(target=used, args=(recent, "a", slow)) for _ in range(4)]
    for asker in askers:
        asker.start()
    assert begun.wait(30)
    used(recent, "b")  # another CT does not wait for it
    go.set()
    for asker in askers:
        asker.join(30)
    assert read == [1]


def test_the_one_used_longest_ago_makes_room() -> None:
    recent, read = VolumeCache(limit_bytes=8_000), []
    for key in ("a", "b", "a", "c", "a", "b"):
        used(recent, key, lambda key=key: read.append(key) or volume())  # type: ignore[misc]
    assert read == ["a", "b", "c", "b"]


def test_one_larger_than_the_room_is_given_out_and_not_kept() -> None:
    recent, read = VolumeCache(limit_bytes=8_000), []
    for _ in range(2):
        assert used(recent, "a", lambda: read.append(1) or volume(3)).geometry.shape[0] == 3  # type: ignore[func-returns-value]
    assert read == [1, 1]


def test_a_failure_is_raised_and_the_next_request_reads_again() -> None:
    recent = VolumeCache()

    def torn() -> Volume:
        raise InputError("torn")

    with pytest.raises(InputError, match="torn"):
        used(recent, "a", torn)
    assert used(recent, "a").geometry.shape == (1, 10, 100)


def test_only_unused_volumes_are_evicted_oldest_first_and_the_requested_one_last() -> None:
    recent = VolumeCache()
    for key in ("a", "b", "c"):
        used(recent, key)
    with recent.volume("b", volume):
        assert recent.idle_bytes(None) == 8_000 and recent.idle_bytes("a") == 4_000
        recent.evict(1, "a")
        assert recent.idle_bytes(None) == 4_000  # c went, b is used
        recent.evict(10**9, None)
        assert recent.idle_bytes(None) == 0
    assert recent.idle_bytes(None) == 4_000


def test_a_disconnected_client_does_not_wait_for_the_read_of_another() -> None:
    recent, go, begun = VolumeCache(), threading.Event(), threading.Event()

    def slow() -> Volume:
        begun.set()
        assert go.wait(30)
        return volume()

    reader = threading.Thread(target=used, args=(recent, "a", slow))
    reader.start()
    assert begun.wait(30)
    with pytest.raises(ClientDisconnectedError), recent.volume("a", volume, is_disconnected=lambda: True):
        pytest.fail("read twice")
    go.set()
    reader.join(30)
    assert used(recent, "a", lambda: pytest.fail("read twice")).geometry.shape == (1, 10, 100)


def test_another_file_under_the_same_name_is_another_state(tmp_path: Path) -> None:
    path = tmp_path / "ct.nrrd"
    states = [state_of([path])]
    for text in ("one", "two!", "gone"):
        path.write_text(text) if text != "gone" else path.unlink()
        states.append(state_of([path]))
    os.utime(tmp_path)  # of the folder: means nothing
    assert states[3] == states[0] and len(set(states)) == 3
    assert state_of([path, path]) != state_of([path])
