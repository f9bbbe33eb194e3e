"""Transfer by the real client from a real S3 server: complete, interrupted, resumed, damaged, refused."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from lib.dicom.scan.scan import scan_folder
from lib.download.download import download, missing_bytes
from lib.download.idc import IndexedSeries
from lib.download.manifest import series_folder
from lib.download.transfer import S3Client, downloaded
from lib.errors import DownloadError, InputError
from lib.pairing.pairs import pair_series
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.download.idc_server import CuttingProxy, Server, listed, random_pair, select

NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture(scope="module")
def pair(s3: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[IndexedSeries, IndexedSeries]:
    """A CT and a PET of random bytes, together 2 MB, on the server."""
    ct, pet = random_pair(s3, tmp_path_factory.mktemp("pair"), "pair")
    return ct, pet


def client(server: Server, url: str = "") -> S3Client:
    return S3Client(server.s5cmd, url or server.url, retries=1)


def test_fetched_series_can_be_scanned_and_paired(s3: Server, tmp_path: Path) -> None:
    settings = PhantomSettings(slices=4, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
    source = write_phantoms(tmp_path / "source", patients=1, settings=settings)[0]
    chosen = []
    for modality, name in (("CT", "CT"), ("PT", "PET")):
        sizes = [path.stat().st_size for path in (source / name).iterdir()]
        url = s3.put(source / name, f"phantom{name}")
        chosen.append(listed(modality, url=url, images=len(sizes), size_bytes=sum(sizes)))
    report = download(select(*chosen), tmp_path / "out", client=client(s3))
    assert (report.fetched, report.reused, report.failed) == (2, 0, ())
    assert len(pair_series(scan_folder(tmp_path / "out")).pairs) == 1
    for path in source.rglob("*.dcm"):
        folder = series_folder(tmp_path / "out", chosen[path.parent.name == "PET"])
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_existing_files_are_not_fetched_again(s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]) -> None:
    selection = select(*pair)
    assert missing_bytes(selection, tmp_path) == 2_000_000
    download(selection, tmp_path, client=client(s3))
    assert missing_bytes(selection, tmp_path) == 0
    again = download(selection, tmp_path, client=client(s3, NOWHERE))
    assert (again.fetched, again.reused, again.failed) == (0, 2, ())


def test_interrupted_download_resumes(s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]) -> None:
    selection = select(*pair)
    with CuttingProxy(s3, cut_after_bytes=1_700_000) as proxy:  # the CT and two or three of the PET's files
        report = download(selection, tmp_path, client=client(s3, proxy.url))
    assert [failure.series_instance_uid for failure in report.failed] == [pair[1].series_instance_uid]
    listed_then = {
        one["modality"]: one["complete"] for one in json.loads((tmp_path / "download.json").read_text())["series"]
    }
    assert listed_then == {"CT": True, "PT": False}
    missing = missing_bytes(selection, tmp_path)
    assert 0 < missing <= 400_000
    with CuttingProxy(s3, cut_after_bytes=10**9) as proxy:
        report = download(selection, tmp_path, client=client(s3, proxy.url))
    assert (report.fetched, report.reused, report.failed) == (1, 1, ())
    assert missing <= proxy.carried_bytes < missing + 30_000  # plus HTTP headers
    assert missing_bytes(selection, tmp_path) == 0


def test_interrupt_stops_the_client(s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if proxy.is_cut:
            raise KeyboardInterrupt

    with CuttingProxy(s3, cut_after_bytes=900_000, stalls=True) as proxy, pytest.raises(KeyboardInterrupt):
        download(select(*pair), tmp_path, client=client(s3, proxy.url), progress=interrupt)
    assert not [child for child in psutil.Process().children() if child.name() == "s5cmd"]
    assert (tmp_path / "ATTRIBUTION.md").is_file()


def test_incomplete_and_damaged_files_are_replaced(s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]) -> None:
    download(select(*pair), tmp_path, client=client(s3))
    folder = series_folder(tmp_path, pair[0])
    content = (folder / "003.dcm").read_bytes()
    (folder / "003.dcm").write_bytes(content[:1000])
    (folder / "004.dcm").rename(folder / "004.dcm123456789")  # what the client leaves when it is killed
    report = download(select(*pair), tmp_path, client=client(s3))
    assert (report.fetched, report.reused) == (1, 1)
    assert (folder / "003.dcm").read_bytes() == content
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:03d}.dcm" for number in range(8)]


def test_incomplete_series_of_the_archive_is_reported(
    s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]
) -> None:
    promised = listed("CT", series_instance_uid="1.2.3.4", url=pair[0].url, images=9, size_bytes=1_700_000)
    report = download(select(promised, pair[1]), tmp_path, client=client(s3))
    assert report.fetched == 1  # the PET: the rest goes on
    assert "8 files with 1600000 bytes arrived, expected 9 with 1700000" in report.failed[0].reason


def test_missing_series_of_the_archive_is_reported(s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]) -> None:
    report = download(select(listed("CT", series_instance_uid="1.2.3.4"), pair[1]), tmp_path, client=client(s3))
    assert [(failure.patient_id, failure.series_instance_uid) for failure in report.failed] == [("P1", "1.2.3.4")]
    assert report.failed[0].reason == "no object found" and report.fetched == 1


def test_download_stops_after_three_consecutive_failures(s3: Server, tmp_path: Path) -> None:
    four = [listed(modality, patient_id=patient) for patient in ("P1", "P2") for modality in ("CT", "PT")]
    with pytest.raises(
        DownloadError, match=r"3 series in a row .*connection refused; 0 of 4 are complete; correct this and resume"
    ):
        download(select(*four), tmp_path, client=client(s3, NOWHERE))


def test_progress_reports_series_and_gigabytes(s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]) -> None:
    reported: list[tuple[int, int, str]] = []
    download(select(*pair), tmp_path, client=client(s3), progress=lambda *step: reported.append(step))
    assert reported[0] == (0, 2, "0.00 of 0.00 GB, P1 CT")
    assert {(done, total) for done, total, _ in reported} == {(0, 2), (1, 2), (2, 2)}


def test_folder_name_with_shell_characters(s3: Server, tmp_path: Path, pair: tuple[IndexedSeries, ...]) -> None:
    out = tmp_path / "a [b] * ?"
    assert download(select(*pair), out, client=client(s3)).failed == ()
    assert downloaded(series_folder(out, pair[0])) == (8, 1_600_000)


def test_too_small_disk_is_reported_before_downloading(s3: Server, tmp_path: Path) -> None:
    huge = select(listed("CT", size_bytes=10**18), listed("PT"))
    with pytest.raises(InputError, match=r"1000000000.0 GB to fetch, .* GB free; download fewer patients"):
        download(huge, tmp_path / "new", client=client(s3))
    assert not (tmp_path / "new").exists()


def test_file_instead_of_folder_is_refused(s3: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; name a folder to download into"):
        download(select(listed("CT"), listed("PT")), tmp_path / "file", client=client(s3))


@pytest.mark.parametrize("url", ["", "127.0.0.1:5000", "file:///etc", "https://"])
def test_an_endpoint_is_a_url(url: str) -> None:
    with pytest.raises(InputError, match=r"expected a URL such as https://s3\.amazonaws\.com"):
        S3Client(Path("s5cmd"), url)
