"""One slice of a series of a PACS: one request, within limits, and nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lib.dicom.read.single_slice import read_ct_slice
from lib.dicom.read.volume import read_ct
from lib.dicom.remote import single_slice as single_slice_module
from lib.dicom.remote.budget import ResponseTooLargeError
from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.single_slice import fetched_slice
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError, FetchCancelledError, RemoteError
from lib.types import Series, SliceSource
from tests.dicom.builders import write_series
from tests.server.malicious_pacs import MULTIPART, Kind, MaliciousPacs, malicious_pacs
from tests.server.pacs_misbehaviour import drips, gzip_bomb, hangs, responds

PART = b"--B\r\nContent-Type: application/dicom\r\n\r\n"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, count=5)
    return scan_folder(folder).usable("CT")[0].series


@pytest.fixture
def pacs(series: Series) -> Iterator[MaliciousPacs]:
    with malicious_pacs(series.files[0].parent) as running:
        yield running


def named_by_uid(pacs: MaliciousPacs, source: SliceSource) -> SliceSource:
    """Return a slice whose file is named after its UID, as those of a PACS are."""
    content = source.path.read_bytes()
    uid = next(uid for uid, stored in pacs.instances.items() if stored == content)
    return SliceSource(Path(f"{uid}.dcm"), source.frame)


def test_one_instance_is_fetched_and_removed(pacs: MaliciousPacs, series: Series) -> None:
    whole = read_ct(series).array
    for k, source in enumerate(series.slices):
        pacs.requests.clear()
        with fetched_slice(Pacs(pacs.url), series, named_by_uid(pacs, source)) as local:
            found = read_ct_slice(series, local, shape=whole.shape[1:])
        np.testing.assert_array_equal(found, whole[k])
        assert pacs.requests == {Kind.INSTANCE: 1}
        assert not local.path.exists() and not local.path.parent.exists()


@pytest.mark.parametrize("behaviour", [hangs(), drips(MULTIPART, PART, interval_s=0.1)], ids=["hangs", "drips"])
def test_a_slow_pacs_is_given_up_after_the_time_of_a_preview(
    pacs: MaliciousPacs, series: Series, monkeypatch: pytest.MonkeyPatch, behaviour: object
) -> None:
    monkeypatch.setattr(single_slice_module, "TIMEOUT_S", 1.0)
    pacs.behaviours[Kind.INSTANCE] = behaviour  # type: ignore[assignment]
    began = time.monotonic()
    with pytest.raises(RemoteError), fetched_slice(Pacs(pacs.url), series, named_by_uid(pacs, series.slices[2])):
        pass
    assert time.monotonic() - began < 3.0


def test_an_instance_that_is_too_large_is_not_read_on(pacs: MaliciousPacs, series: Series) -> None:
    pacs.behaviours[Kind.INSTANCE] = gzip_bomb(10**8, MULTIPART, PART)
    source = named_by_uid(pacs, series.slices[2])
    with pytest.raises(ResponseTooLargeError, match="more than 34 MB"), fetched_slice(Pacs(pacs.url), series, source):
        pass


def test_an_instance_that_is_gone(pacs: MaliciousPacs, series: Series) -> None:
    pacs.behaviours[Kind.INSTANCE] = responds(404)
    source = named_by_uid(pacs, series.slices[2])
    with pytest.raises(DicomError, match="no longer"), fetched_slice(Pacs(pacs.url), series, source):
        pass


def test_a_cancelled_request_ends(pacs: MaliciousPacs, series: Series) -> None:
    source = named_by_uid(pacs, series.slices[2])
    with pytest.raises(FetchCancelledError), fetched_slice(Pacs(pacs.url), series, source, cancelled=lambda: True):
        pass
