"""Jobs against the real server: slabs, cancelling, bad networks, uploads, watching a training."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from CT2PETLib.client.client import Client
from CT2PETLib.client.nrrd import read_nrrd
from CT2PETLib.client.training import CurvePoint, Training
from CT2PETLib.client.transport import RetryPolicy
from CT2PETLib.jobs import jobs
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab, Restarted, Uploaded, UploadProgress
from CT2PETLib.jobs.job import Job, State, Tell
from CT2PETLib.jobs.jobs import SynthesisJob, TrainingWatch, UploadJob
from CT2PETLib.jobs.slab_order import slab_order

from tests.slicer.client.conftest import SLICES, Clinic, drain_until, finished, publish, save_varied_model
from tests.slicer.proxy import Proxy

pytestmark = [pytest.mark.server, pytest.mark.slow]

CENTRE = 13


def synthesis(clinic: Clinic, client: Client, **changed: object) -> SynthesisJob:
    asked = {"model": "cascade3", "image_id": clinic.ct_uid, "wanted": (0, SLICES), "centre": CENTRE, **changed}
    return SynthesisJob(client, **asked)  # type: ignore[arg-type]


def assembled(come: list[object]) -> np.ndarray:
    """The PET that slabs fill; NaN where none has come."""
    volume = np.full((SLICES, 64, 64), np.nan, np.float32)
    for slab in come:
        if isinstance(slab, Restarted):
            volume[:] = np.nan
        if isinstance(slab, ReceivedSlab):
            assert np.isnan(volume[slab.start : slab.stop]).all(), "a slice came twice"
            volume[slab.start : slab.stop] = slab.pet.array
    return volume


@pytest.fixture(scope="module")
def whole(clinic: Clinic) -> np.ndarray:
    """The PET asked for at once."""
    return clinic.client().slab("cascade3", clinic.ct_uid, 0, SLICES).pet_volume().array


# -- drawing ---------------------------------------------------------------------------------------------------------


def test_the_slabs_together_are_the_whole_voxel_by_voxel(clinic: Clinic, client: Client, whole: np.ndarray) -> None:
    job = synthesis(clinic, client)
    come = finished(job)
    assert (job.state, job.sentence, job.missing, job.fraction) == (State.DONE, "", (), 1.0)
    assert np.ptp(whole) > 0.1
    np.testing.assert_allclose(assembled(come), whole, rtol=0, atol=1e-5)


def test_they_come_round_the_slice_on_screen_first(clinic: Clinic, client: Client) -> None:
    come = finished(synthesis(clinic, client))
    assert tuple((slab.start, slab.stop) for slab in come) == slab_order((0, SLICES), CENTRE)
    assert come[0].start <= CENTRE < come[0].stop
    assert (come[0].stop - come[0].start, come[1].stop - come[1].start) == (1, 13)


def test_slices_of_interest_alone_with_the_error_to_expect(clinic: Clinic, client: Client, whole: np.ndarray) -> None:
    job = synthesis(clinic, client, wanted=(10, 20), uncertainty=True)
    come = finished(job)
    np.testing.assert_allclose(assembled(come)[10:20], whole[10:20], rtol=0, atol=1e-5)
    assert np.isnan(assembled(come)[:10]).all()
    assert all(slab.uncertainty is not None and slab.uncertainty.array.max() > 0.4 for slab in come)


def test_who_scrolls_is_followed(clinic: Clinic, client: Client, proxy: Proxy) -> None:
    job = synthesis(clinic, clinic.client(url=proxy.url))
    proxy.holding.set()
    job.start()
    job.look_at(36)
    proxy.holding.clear()
    come = drain_until(job, lambda: job.state.is_over)
    assert come[1].start <= 36 < come[1].stop


def test_time_left_is_known_after_the_first_slab(clinic: Clinic, client: Client) -> None:
    job = synthesis(clinic, client)
    assert (job.seconds_left, job.fraction) == (None, 0.0)
    job.start()
    drain_until(job, lambda: job.fraction > 0)
    if not job.state.is_over:
        assert job.seconds_left is not None and job.seconds_left > 0
    drain_until(job, lambda: job.state.is_over)
    assert job.seconds_left == 0.0


def test_what_the_server_refuses_fails_with_its_words(clinic: Clinic, client: Client) -> None:
    job = synthesis(clinic, client, model="unet")
    assert finished(job) == []
    assert job.state is State.FAILED
    assert "not trained yet" in job.sentence
    assert job.drain() == []


# -- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_answers_within_a_second_in_the_middle_of_a_request_and_keeps_what_has_come(
    clinic: Clinic, proxy: Proxy, whole: np.ndarray
) -> None:
    job = synthesis(clinic, clinic.client(url=proxy.url))
    job.start()
    come = drain_until(job, lambda: job.fraction > 0)
    proxy.holding.set()  # the next answer never comes
    drain_until(job, lambda: proxy.holding.is_set())
    began = time.monotonic()
    job.cancel()
    asked = time.monotonic() - began
    assert job.state in (State.CANCEL_REQUESTED, State.DONE)
    come += drain_until(job, lambda: job.state.is_over)
    assert time.monotonic() - began < 1.0
    assert asked < 0.05
    assert job.state is State.CANCELLED
    volume = assembled(come)
    there = ~np.isnan(volume)
    assert there.any() and not there.all()
    np.testing.assert_allclose(volume[there], whole[there], rtol=0, atol=1e-5)
    proxy.holding.clear()
    come += finished(job.rest())  # the rest, and not a slice twice
    np.testing.assert_allclose(assembled(come), whole, rtol=0, atol=1e-5)


def test_cancelling_wakes_a_job_that_waits_for_a_lost_server(clinic: Clinic, proxy: Proxy) -> None:
    client = clinic.client(url=proxy.url)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    job = synthesis(clinic, client)
    job.start()
    come = drain_until(job, lambda: job.state is State.RUNNING)
    while not any(isinstance(one, ConnectionLost) for one in come):
        come += job.drain()
    began = time.monotonic()
    job.cancel()
    drain_until(job, lambda: job.state.is_over)
    assert (job.state, time.monotonic() - began < 1.0) == (State.CANCELLED, True)


def test_cancelling_does_not_wait_for_a_name_that_is_looked_up(
    clinic: Clinic, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    known = socket.getaddrinfo

    def slow(*arguments: object, **words: object) -> object:
        released.wait(30)
        return known(*arguments, **words)  # type: ignore[call-overload]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    job = synthesis(clinic, client)
    job.start()
    drain_until(job, lambda: job.state is State.RUNNING)
    began = time.monotonic()
    job.cancel()
    drain_until(job, lambda: job.state.is_over)
    released.set()
    assert (job.state, time.monotonic() - began < 1.0) == (State.CANCELLED, True)


def test_a_job_that_never_began_is_cancelled_too(clinic: Clinic, client: Client) -> None:
    job = synthesis(clinic, client)
    job.cancel()
    job.start()
    assert (job.state, job.drain()) == (State.CANCELLED, [])


# -- networks --------------------------------------------------------------------------------------------------------


def test_a_slow_network_only_takes_longer(clinic: Clinic, proxy: Proxy, whole: np.ndarray) -> None:
    client = clinic.client(url=proxy.url)
    proxy.latency_s, proxy.bytes_per_s = 0.05, 400_000
    np.testing.assert_allclose(assembled(finished(synthesis(clinic, client))), whole, rtol=0, atol=1e-5)


def test_a_network_that_cuts_every_other_answer_loses_no_slice(
    clinic: Clinic, proxy: Proxy, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LOST", RetryPolicy(60.0, first_s=0.05))
    client = clinic.client(url=proxy.url)
    proxy.cut_all()
    proxy.cuts = [700, 10**9, 20_000, 10**9, 5, 10**9]
    job = synthesis(clinic, client)
    come = finished(job)
    lost = [one for one in come if isinstance(one, ConnectionLost)]
    assert job.state is State.DONE
    assert lost and all("was lost" in one.sentence for one in lost)
    np.testing.assert_allclose(assembled(come), whole, rtol=0, atol=1e-5)


def test_a_connection_that_stays_lost_fails_in_words_and_keeps_what_has_come(
    clinic: Clinic, proxy: Proxy, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LOST", RetryPolicy(0.3, first_s=0.05))
    job = synthesis(clinic, clinic.client(url=proxy.url))
    job.start()
    come = drain_until(job, lambda: job.fraction > 0)
    proxy.target = ("127.0.0.1", 1)
    proxy.cut_all()
    come += drain_until(job, lambda: job.state.is_over)
    assert (job.state, "was lost" in job.sentence) == (State.FAILED, True)
    proxy.target = ("127.0.0.1", int(clinic.server.url.rpartition(":")[2]))
    come += finished(job.rest())
    np.testing.assert_allclose(assembled(come), whole, rtol=0, atol=1e-5)


def test_another_version_in_the_middle_is_never_mixed_with_the_first(
    clinic: Clinic, client: Client, proxy: Proxy, tmp_path: Path
) -> None:
    job = synthesis(clinic, clinic.client(url=proxy.url))
    job.start()
    come = drain_until(job, lambda: job.fraction > 0)
    proxy.holding.set()
    publish(clinic.server, save_varied_model(tmp_path / "other.safetensors", seed=1))
    proxy.holding.clear()
    come += drain_until(job, lambda: job.state.is_over)
    expected = client.slab("cascade3", clinic.ct_uid, 0, SLICES)
    publish(clinic.server, save_varied_model(tmp_path / "first.safetensors"))
    assert (job.state, job.checksum) == (State.DONE, expected.told.checksum)
    assert sum(isinstance(one, Restarted) for one in come) == 1
    np.testing.assert_allclose(assembled(come), expected.pet_volume().array, rtol=0, atol=1e-5)


def test_a_job_that_names_a_version_keeps_to_it_whatever_is_served_meanwhile(
    clinic: Clinic, client: Client, proxy: Proxy, tmp_path: Path, whole: np.ndarray
) -> None:
    version = int(client.slab("cascade3", clinic.ct_uid, 0, 1).told.version)
    job = synthesis(clinic, clinic.client(url=proxy.url), version=version)
    job.start()
    come = drain_until(job, lambda: job.fraction > 0)
    publish(clinic.server, save_varied_model(tmp_path / "other.safetensors", seed=1))
    job.cancel()
    come += drain_until(job, lambda: job.state.is_over)
    come += finished(job.rest())
    publish(clinic.server, save_varied_model(tmp_path / "first.safetensors"))
    assert not any(isinstance(one, Restarted) for one in come)
    assert {one.told.version for one in come if isinstance(one, ReceivedSlab)} == {str(version)}
    np.testing.assert_allclose(assembled(come), whole, rtol=0, atol=1e-5)


def test_an_error_of_the_module_itself_never_reaches_the_window(client: Client) -> None:
    def broken(_: Client, tell: Tell) -> None:
        tell("one")
        raise TypeError("oh")

    job = Job(client, broken)
    assert finished(job) == ["one"]
    assert (job.state, "TypeError" in job.sentence, "broken" in job.trace) == (State.FAILED, True, True)


# -- sending and watching --------------------------------------------------------------------------------------------


def test_a_ct_of_the_scene_is_sent_with_progress_and_once(clinic: Clinic) -> None:
    array, affine = (clinic.ct.array - 1).astype(np.int16), clinic.ct.geometry.affine
    client = clinic.client("ann")
    job = UploadJob(client, array=array, affine=affine)
    *sent, last = finished(job)
    assert (job.state, last, job.uploaded) == (State.DONE, Uploaded(last.image_id, already_present=False), last)
    assert all(isinstance(one, UploadProgress) for one in sent)
    assert sent[-1].done == sent[-1].total > 0
    assert finished(UploadJob(client, array=array, affine=affine)) == [Uploaded(last.image_id, already_present=True)]
    np.testing.assert_array_equal(read_nrrd(client.ct(last.image_id)).array, array)


def test_sending_can_be_cancelled_in_the_middle(clinic: Clinic, proxy: Proxy) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(-1000, 1000, (SLICES, 512, 512), np.int16)  # 20 MB that do not shrink much
    job = UploadJob(clinic.client("ann", url=proxy.url), array=array, affine=clinic.ct.geometry.affine)
    proxy.upload_bytes_per_s = 2_000_000
    job.start()
    drain_until(job, lambda: job.state.is_over or any(isinstance(one, UploadProgress) for one in job.drain()))
    began = time.monotonic()
    job.cancel()
    drain_until(job, lambda: job.state.is_over)
    assert (job.state, time.monotonic() - began < 1.0, job.uploaded) == (State.CANCELLED, True, None)


def test_a_training_is_watched_until_it_is_done(clinic: Clinic, client: Client) -> None:
    assert client.training() == Training()
    client.train("unet", {"max_epochs": 3})
    watch = TrainingWatch(client, every_s=0.2)
    come = finished(watch, timeout_s=150)
    assert (watch.state, watch.sentence) == (State.DONE, "")
    done = watch.training
    assert done is not None and done == come[-1]
    assert (done.model, done.state, done.epoch, done.epochs) == ("unet", "DONE", 3, 3)
    assert done.published is False  # of two patients both were learnt from: nobody is left to judge it by
    assert "not served" in done.verdict
    assert done.version
    assert any(one.is_active for one in come)
    assert watch.curve[-1] == CurvePoint(3, done.loss, None)  # nobody validates in this run
    assert done.loss is not None and done.loss > 0


def test_a_training_can_be_stopped(clinic: Clinic, client: Client) -> None:
    client.train("unet", {"max_epochs": 100_000})
    watch = TrainingWatch(client, every_s=0.2)
    watch.start()
    drain_until(watch, lambda: watch.training is not None and watch.training.state == "RUNNING")
    client.stop_training()
    drain_until(watch, lambda: watch.state.is_over)
    assert watch.training is not None
    assert (watch.state, watch.training.state, watch.training.in_words) == (State.DONE, "STOPPED", "stopped")
