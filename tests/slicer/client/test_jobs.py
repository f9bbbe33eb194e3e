"""Jobs against a real server: slabs, cancellation, network failures, uploads, watching a training."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from CT2PETLib.client.client import Client
from CT2PETLib.client.http.transport import RetryPolicy
from CT2PETLib.client.nrrd import read_nrrd
from CT2PETLib.client.training import CurvePoint, Training
from CT2PETLib.jobs import jobs
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab, Restarted, Uploaded, UploadProgress
from CT2PETLib.jobs.job import Emit, Job, State
from CT2PETLib.jobs.jobs import SynthesisJob, TrainingWatch, UploadJob
from CT2PETLib.jobs.slab_order import slab_order

from tests.slicer.client.conftest import SLICES, Clinic, drain_until, finished, publish, save_varied_model
from tests.slicer.proxy import Proxy

pytestmark = [pytest.mark.server, pytest.mark.slow]

CENTRE = 13


def synthesis(clinic: Clinic, client: Client, **options: object) -> SynthesisJob:
    arguments = {"model": "cascade3", "image_id": clinic.ct_uid, "requested": (0, SLICES), "centre": CENTRE, **options}
    return SynthesisJob(client, **arguments)  # type: ignore[arg-type]


def assembled(events: list[object]) -> np.ndarray:
    """Return the PET of the received slabs; NaN for missing slices."""
    volume = np.full((SLICES, 64, 64), np.nan, np.float32)
    for slab in events:
        if isinstance(slab, Restarted):
            volume[:] = np.nan
        if isinstance(slab, ReceivedSlab):
            assert np.isnan(volume[slab.start : slab.stop]).all(), "a slice was received twice"
            volume[slab.start : slab.stop] = slab.pet.array
    return volume


@pytest.fixture(scope="module")
def full(clinic: Clinic) -> np.ndarray:
    """Return the PET of a single request."""
    return clinic.client().slab("cascade3", clinic.ct_uid, 0, SLICES).pet_volume().array


# -- synthesis -------------------------------------------------------------------------------------------------------


def test_slabs_together_equal_the_full_volume(clinic: Clinic, client: Client, full: np.ndarray) -> None:
    job = synthesis(clinic, client)
    events = finished(job)
    assert (job.state, job.message, job.missing, job.fraction) == (State.DONE, "", (), 1.0)
    assert np.ptp(full) > 0.1
    np.testing.assert_allclose(assembled(events), full, rtol=0, atol=1e-5)


def test_slabs_around_the_displayed_slice_come_first(clinic: Clinic, client: Client) -> None:
    events = finished(synthesis(clinic, client))
    assert tuple((slab.start, slab.stop) for slab in events) == slab_order((0, SLICES), CENTRE)
    assert events[0].start <= CENTRE < events[0].stop
    assert (events[0].stop - events[0].start, events[1].stop - events[1].start) == (1, 13)


def test_range_of_slices_with_uncertainty(clinic: Clinic, client: Client, full: np.ndarray) -> None:
    job = synthesis(clinic, client, requested=(10, 20), uncertainty=True)
    events = finished(job)
    np.testing.assert_allclose(assembled(events)[10:20], full[10:20], rtol=0, atol=1e-5)
    assert np.isnan(assembled(events)[:10]).all()
    assert all(slab.uncertainty is not None and slab.uncertainty.array.max() > 0.4 for slab in events)


def test_scrolling_changes_the_order(clinic: Clinic, client: Client, proxy: Proxy) -> None:
    job = synthesis(clinic, clinic.client(url=proxy.url))
    proxy.holding.set()
    job.start()
    job.prioritise(36)
    proxy.holding.clear()
    events = drain_until(job, lambda: job.state.is_over)
    assert events[1].start <= 36 < events[1].stop


def test_remaining_time_is_known_after_the_first_slab(clinic: Clinic, client: Client) -> None:
    job = synthesis(clinic, client)
    assert (job.seconds_left, job.fraction) == (None, 0.0)
    job.start()
    drain_until(job, lambda: job.fraction > 0)
    if not job.state.is_over:
        assert job.seconds_left is not None and job.seconds_left > 0
    drain_until(job, lambda: job.state.is_over)
    assert job.seconds_left == 0.0


def test_refused_request_fails_with_a_message(clinic: Clinic, client: Client) -> None:
    job = synthesis(clinic, client, model="unet")
    assert finished(job) == []
    assert job.state is State.FAILED
    assert "not trained yet" in job.message
    assert job.drain() == []


# -- cancellation ----------------------------------------------------------------------------------------------------


def test_cancellation_takes_less_than_a_second_and_keeps_received_slabs(
    clinic: Clinic, proxy: Proxy, full: np.ndarray
) -> None:
    job = synthesis(clinic, clinic.client(url=proxy.url))
    job.start()
    events = drain_until(job, lambda: job.fraction > 0)
    proxy.holding.set()  # the next response never arrives
    drain_until(job, lambda: proxy.holding.is_set())
    began = time.monotonic()
    job.cancel()
    cancel_s = time.monotonic() - began
    assert job.state in (State.CANCEL_REQUESTED, State.DONE)
    events += drain_until(job, lambda: job.state.is_over)
    assert time.monotonic() - began < 1.0
    assert cancel_s < 0.05
    assert job.state is State.CANCELLED
    volume = assembled(events)
    present = ~np.isnan(volume)
    assert present.any() and not present.all()
    np.testing.assert_allclose(volume[present], full[present], rtol=0, atol=1e-5)
    proxy.holding.clear()
    events += finished(job.rest())  # the missing slices, without duplicates
    np.testing.assert_allclose(assembled(events), full, rtol=0, atol=1e-5)


def test_cancellation_interrupts_the_wait_for_a_retry(clinic: Clinic, proxy: Proxy) -> None:
    client = clinic.client(url=proxy.url)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    job = synthesis(clinic, client)
    job.start()
    events = drain_until(job, lambda: job.state is State.RUNNING)
    while not any(isinstance(one, ConnectionLost) for one in events):
        events += job.drain()
    began = time.monotonic()
    job.cancel()
    drain_until(job, lambda: job.state.is_over)
    assert (job.state, time.monotonic() - began < 1.0) == (State.CANCELLED, True)


def test_cancellation_does_not_wait_for_dns(clinic: Clinic, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    original = socket.getaddrinfo

    def slow(*arguments: object, **options: object) -> object:
        released.wait(30)
        return original(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    job = synthesis(clinic, client)
    job.start()
    drain_until(job, lambda: job.state is State.RUNNING)
    began = time.monotonic()
    job.cancel()
    drain_until(job, lambda: job.state.is_over)
    released.set()
    assert (job.state, time.monotonic() - began < 1.0) == (State.CANCELLED, True)


def test_job_is_cancelled_before_its_start(clinic: Clinic, client: Client) -> None:
    job = synthesis(clinic, client)
    job.cancel()
    job.start()
    assert (job.state, job.drain()) == (State.CANCELLED, [])


# -- network ---------------------------------------------------------------------------------------------------------


def test_slow_network(clinic: Clinic, proxy: Proxy, full: np.ndarray) -> None:
    client = clinic.client(url=proxy.url)
    proxy.latency_s, proxy.bytes_per_s = 0.05, 400_000
    np.testing.assert_allclose(assembled(finished(synthesis(clinic, client))), full, rtol=0, atol=1e-5)


def test_interrupted_responses_lose_no_slice(
    clinic: Clinic, proxy: Proxy, full: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RECONNECT", RetryPolicy(60.0, first_s=0.05))
    client = clinic.client(url=proxy.url)
    proxy.cut_all()
    proxy.cuts = [700, 10**9, 20_000, 10**9, 5, 10**9]
    job = synthesis(clinic, client)
    events = finished(job)
    lost = [one for one in events if isinstance(one, ConnectionLost)]
    assert job.state is State.DONE
    assert lost and all("was lost" in one.message for one in lost)
    np.testing.assert_allclose(assembled(events), full, rtol=0, atol=1e-5)


def test_lost_connection_fails_with_a_message_and_keeps_received_slabs(
    clinic: Clinic, proxy: Proxy, full: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RECONNECT", RetryPolicy(0.3, first_s=0.05))
    job = synthesis(clinic, clinic.client(url=proxy.url))
    job.start()
    events = drain_until(job, lambda: job.fraction > 0)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    events += drain_until(job, lambda: job.state.is_over)
    assert (job.state, "was lost" in job.message) == (State.FAILED, True)
    proxy.target = ("127.0.0.1", int(clinic.server.url.rpartition(":")[2]))
    events += finished(job.rest())
    np.testing.assert_allclose(assembled(events), full, rtol=0, atol=1e-5)


def test_slabs_of_two_versions_are_never_mixed(clinic: Clinic, client: Client, proxy: Proxy, tmp_path: Path) -> None:
    job = synthesis(clinic, clinic.client(url=proxy.url))
    job.start()
    events = drain_until(job, lambda: job.fraction > 0)
    proxy.holding.set()
    publish(clinic.server, save_varied_model(tmp_path / "other.safetensors", seed=1))
    proxy.holding.clear()
    events += drain_until(job, lambda: job.state.is_over)
    expected = client.slab("cascade3", clinic.ct_uid, 0, SLICES)
    publish(clinic.server, save_varied_model(tmp_path / "first.safetensors"))
    assert (job.state, job.checksum) == (State.DONE, expected.metadata.checksum)
    assert sum(isinstance(one, Restarted) for one in events) == 1
    np.testing.assert_allclose(assembled(events), expected.pet_volume().array, rtol=0, atol=1e-5)


def test_requested_version_is_kept_when_another_is_served(
    clinic: Clinic, client: Client, proxy: Proxy, tmp_path: Path, full: np.ndarray
) -> None:
    version = int(client.slab("cascade3", clinic.ct_uid, 0, 1).metadata.version)
    job = synthesis(clinic, clinic.client(url=proxy.url), version=version)
    job.start()
    events = drain_until(job, lambda: job.fraction > 0)
    publish(clinic.server, save_varied_model(tmp_path / "other.safetensors", seed=1))
    job.cancel()
    events += drain_until(job, lambda: job.state.is_over)
    events += finished(job.rest())
    publish(clinic.server, save_varied_model(tmp_path / "first.safetensors"))
    assert not any(isinstance(one, Restarted) for one in events)
    assert {one.metadata.version for one in events if isinstance(one, ReceivedSlab)} == {str(version)}
    np.testing.assert_allclose(assembled(events), full, rtol=0, atol=1e-5)


def test_internal_error_does_not_reach_the_window(client: Client) -> None:
    def broken(_: Client, emit: Emit) -> None:
        emit("one")
        raise TypeError("oh")

    job = Job(client, broken)
    assert finished(job) == ["one"]
    assert (job.state, "TypeError" in job.message, "broken" in job.trace) == (State.FAILED, True, True)


# -- upload and training ---------------------------------------------------------------------------------------------


def test_ct_is_uploaded_once_with_progress(clinic: Clinic) -> None:
    array, affine = (clinic.ct.array - 1).astype(np.int16), clinic.ct.geometry.affine
    client = clinic.client("ann")
    job = UploadJob(client, array=array, affine=affine)
    *sent, last = finished(job)
    assert (job.state, last, job.uploaded) == (State.DONE, Uploaded(last.image_id, already_present=False), last)
    assert all(isinstance(one, UploadProgress) for one in sent)
    assert sent[-1].done == sent[-1].total > 0
    assert finished(UploadJob(client, array=array, affine=affine)) == [Uploaded(last.image_id, already_present=True)]
    np.testing.assert_array_equal(read_nrrd(client.ct(last.image_id)).array, array)


def test_upload_can_be_cancelled(clinic: Clinic, proxy: Proxy) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(-1000, 1000, (SLICES, 512, 512), np.int16)  # 20 MB that are hardly compressible
    job = UploadJob(clinic.client("ann", url=proxy.url), array=array, affine=clinic.ct.geometry.affine)
    proxy.upload_bytes_per_s = 2_000_000
    job.start()
    drain_until(job, lambda: job.state.is_over or any(isinstance(one, UploadProgress) for one in job.drain()))
    began = time.monotonic()
    job.cancel()
    drain_until(job, lambda: job.state.is_over)
    assert (job.state, time.monotonic() - began < 1.0, job.uploaded) == (State.CANCELLED, True, None)


def test_training_is_watched_until_its_end(clinic: Clinic, client: Client) -> None:
    assert client.training() == Training()
    client.train("unet", {"max_epochs": 3})
    watch = TrainingWatch(client, interval_s=0.2)
    events = finished(watch, timeout_s=150)
    assert (watch.state, watch.message) == (State.DONE, "")
    done = watch.training
    assert done is not None and done == events[-1]
    assert (done.model, done.state, done.epoch, done.epochs) == ("unet", "DONE", 3, 3)
    assert done.published is False  # both patients are used for training: none is left for validation
    assert "not served" in done.verdict
    assert done.version
    assert any(one.is_active for one in events)
    assert watch.curve[-1] == CurvePoint(3, done.loss, None)  # no validation in this run
    assert done.loss is not None and done.loss > 0


def test_training_can_be_stopped(clinic: Clinic, client: Client) -> None:
    client.train("unet", {"max_epochs": 100_000})
    watch = TrainingWatch(client, interval_s=0.2)
    watch.start()
    drain_until(watch, lambda: watch.training is not None and watch.training.state == "RUNNING")
    client.stop_training()
    drain_until(watch, lambda: watch.state.is_over)
    assert watch.training is not None
    assert (watch.state, watch.training.state, watch.training.state_text) == (State.DONE, "STOPPED", "stopped")
