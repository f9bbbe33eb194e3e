"""Pairs to arrays: written completely or not at all, each once; a failure is reported and does not stop the rest."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from lib.dicom.scan.scan import scan_folder
from lib.errors import PreparedDataError
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.pairing.pairs import PairedSeries, pair_series
from lib.pairing.prepare import prepare_pairs
from lib.pairing.prepared import Preparation, PreparedSet
from lib.pairing.prepared_folder import LOCK_FILE, pair_id
from tests.dicom.builders import stored_pixels, write_series

TINY = Preparation(Grid(pixel_mm=2.0), Windows(pet_high_suv=1.0))


IN_HU = {"RescaleIntercept": -300.0}  # of CTs: air and tissue, as the check of CTs requires


def pairs_of(root: Path) -> tuple[PairedSeries, ...]:
    return pair_series(scan_folder(root)).pairs


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two patients of 5 slices, 6 x 8 pixels of 2 x 1.5 mm; CT and PET on one grid."""
    for number in (1, 2):
        of_patient = {
            "PatientID": f"P{number}",
            "StudyInstanceUID": f"1.2.{number}",
            "FrameOfReferenceUID": f"1.2.{number}.9",
        }
        write_series(tmp_path / "dicom" / f"ct{number}", SeriesInstanceUID=f"1.2.{number}.1", **of_patient, **IN_HU)
        write_series(
            tmp_path / "dicom" / f"pet{number}", modality="PT", SeriesInstanceUID=f"1.2.{number}.2", **of_patient
        )
    return tmp_path / "dicom"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "arrays"


def test_suv_of_a_made_up_pair(studies: Path, out: Path) -> None:
    prepared = prepare_pairs(pairs_of(studies), out, preparation=Preparation(Grid(pixel_mm=2.0), TINY.windows)).prepared
    arrays = prepared.arrays(prepared.pairs[0])
    assert prepared.pairs[0].shape == (5, 6, 6)  # 6 x 8 pixels of 2 x 1.5 mm
    # 50 kg, 200 MBq left: 1 Bq/mL is SUV 0.00025; rows stay, so each row's mean does too
    expected = stored_pixels(3).mean(axis=1) * 50_000 / 2e8
    np.testing.assert_allclose(arrays.suv_bw(3).mean(axis=1), expected, rtol=0.002)


def test_progress_names_the_patients(studies: Path, out: Path) -> None:
    reported: list[tuple[int, int, str]] = []
    prepare_pairs(pairs_of(studies), out, preparation=TINY, progress=lambda *step: reported.append(step))
    assert reported == [(0, 2, "preparing P1"), (1, 2, "preparing P2"), (2, 2, "prepared")]


def test_existing_pairs_are_reused(studies: Path, out: Path) -> None:
    first = prepare_pairs(pairs_of(studies)[:1], out, preparation=TINY)
    second = prepare_pairs(pairs_of(studies), out, preparation=TINY)
    assert (first.reused, second.reused) == (0, 1)
    assert second.prepared.patients() == ("P1", "P2")


def test_the_index_has_the_origin_of_series_even_for_arrays_of_earlier_versions(tmp_path: Path) -> None:
    whose = {"Manufacturer": "ACME", "FrameOfReferenceUID": "1.2.9", "StudyInstanceUID": "1.2.0"}
    write_series(
        tmp_path / "dicom" / "ct",
        BodyPartExamined="Leg",
        ManufacturerModelName="Scan 2",
        **whose,
        **IN_HU,
        ConvolutionKernel="B30f",
        PatientAge="063Y",
    )
    write_series(tmp_path / "dicom" / "pet", modality="PT", ManufacturerModelName="ACME Ring", **whose)
    pairs, out = pairs_of(tmp_path / "dicom"), tmp_path / "arrays"
    first = prepare_pairs(pairs, out, preparation=TINY)
    (path,) = out.glob("pairs/*/pair.json")
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "ct_scanner"}))
    second = prepare_pairs(pairs, out, preparation=TINY)
    assert (first.reused, second.reused) == (0, 1)
    for (pair,) in (first.prepared.pairs, second.prepared.pairs):
        assert (pair.ct_scanner, pair.pet_scanner) == ("ACME Scan 2", "ACME Ring")
        assert (pair.body_part, pair.tracer) == ("LEG", "")
        assert (pair.ct_kernel, pair.age_years, pair.metal_ml) == ("B30F", 63.0, 0.0)
        assert pair.ct_pixel_mm == pytest.approx(3**0.5)  # of 2.0 x 1.5 mm


def test_the_set_has_exactly_the_requested_pairs(studies: Path, out: Path) -> None:
    prepare_pairs(pairs_of(studies), out, preparation=TINY)
    assert prepare_pairs(pairs_of(studies)[1:], out, preparation=TINY).prepared.patients() == ("P2",)


def test_a_file_that_changed_is_read_again(studies: Path, out: Path) -> None:
    prepare_pairs(pairs_of(studies), out, preparation=TINY)
    path = studies / "pet1" / "002.dcm"
    content = pydicom.dcmread(path)
    content.PixelData = (stored_pixels(2) + 500).tobytes()
    content.save_as(path)
    os.utime(path, ns=(1, 1))
    again = prepare_pairs(pairs_of(studies), out, preparation=TINY)
    assert again.reused == 1
    suv_bw = again.prepared.arrays(again.prepared.pairs[0]).suv_bw(2)
    assert suv_bw.mean() == pytest.approx((stored_pixels(2) + 500).mean() * 0.00025, rel=0.002)


def tear(folder: Path) -> None:
    path = folder / "pet.npy"
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    "damage",
    [
        tear,
        lambda folder: (folder / "regions.npy").unlink(),
        lambda folder: (folder / "ct.npy").write_bytes(b""),
        lambda folder: (folder / "pair.json").write_text('{"id": 1}'),
        lambda folder: (folder / "pair.json").write_text("["),
        lambda folder: shutil.rmtree(folder),
    ],
    ids=["torn", "missing", "empty", "wrong entry", "torn entry", "gone"],
)
def test_a_damaged_pair_is_prepared_again(studies: Path, out: Path, damage: Callable[[Path], object]) -> None:
    pairs = pairs_of(studies)
    whole = prepare_pairs(pairs, out, preparation=TINY).prepared
    before = np.array(whole.arrays(whole.pairs[0]).pet)
    damage(out / "pairs" / pair_id(pairs[0].pair))
    again = prepare_pairs(pairs, out, preparation=TINY)
    assert (again.reused, again.failed) == (1, ())
    np.testing.assert_array_equal(again.prepared.arrays(again.prepared.pairs[0]).pet, before)


@pytest.mark.parametrize("index", ["", "{}", '{"format": 0}'])
def test_a_damaged_index_is_rewritten(studies: Path, out: Path, index: str) -> None:
    prepare_pairs(pairs_of(studies), out, preparation=TINY)
    (out / "index.json").write_text(index)
    again = prepare_pairs(pairs_of(studies), out, preparation=TINY)
    assert again.reused == 2 and PreparedSet.open(out) == again.prepared


def test_arrays_of_another_recipe_are_not_mixed_in(studies: Path, out: Path) -> None:
    before = prepare_pairs(pairs_of(studies), out, preparation=TINY).prepared
    with pytest.raises(PreparedDataError, match=r"has arrays of another grid or windows .*; choose another folder"):
        prepare_pairs(pairs_of(studies), out, preparation=Preparation(Grid(pixel_mm=3.0), TINY.windows))
    assert PreparedSet.open(out) == before


def test_a_pair_that_fails_is_reported_and_the_others_are_prepared(studies: Path, out: Path) -> None:
    pairs = pairs_of(studies)
    broken, missing = studies / "pet1" / "003.dcm", studies / "ct2" / "000.dcm"
    broken.write_bytes(broken.read_bytes()[:-20])
    report = prepare_pairs(pairs, out, preparation=TINY)
    assert report.prepared.patients() == ("P2",)
    (failed,) = report.failed
    assert (failed.patient_id, failed.ct_series_instance_uid) == ("P1", "1.2.1.1")
    assert "series 1.2.1.2: 003.dcm" in failed.reason and "Secret" not in failed.reason
    missing.unlink()
    assert "000.dcm: cannot be read (No such file or directory); scan the folder again" in (
        prepare_pairs(pairs, out, preparation=TINY).failed[1].reason
    )


def test_a_pet_next_to_the_ct_is_an_error(tmp_path: Path, out: Path) -> None:
    write_series(tmp_path / "dicom" / "ct", **IN_HU)
    write_series(
        tmp_path / "dicom" / "pet", modality="PT", vary=lambda k: {"ImagePositionPatient": [-4, -20, 100 + 3 * k]}
    )  # 6 mm, four of its eight columns, further left
    prepared = prepare_pairs(pairs_of(tmp_path / "dicom"), out, preparation=TINY).prepared
    arrays = prepared.arrays(prepared.pairs[0])
    # columns of 2 mm from -10.75 mm on; the PET begins at -4.75 mm: three columns are not measured, three are
    np.testing.assert_array_equal(arrays.measured(0), [[False] * 3 + [True] * 3] * 6)
    assert not arrays.suv_bw()[..., :3].any()


def test_corners_outside_the_field_of_view_are_not_zero_uptake(tmp_path: Path, out: Path) -> None:
    def cornerless(k: int) -> dict[str, bytes]:
        pixels = stored_pixels(k) + 1
        pixels[0, 0] = 0
        return {"PixelData": pixels.tobytes()}

    write_series(tmp_path / "dicom" / "ct", count=12, **IN_HU)
    write_series(tmp_path / "dicom" / "pet", count=12, modality="PT", vary=cornerless)
    preparation = Preparation(Grid(pixel_mm=1.5), TINY.windows)
    prepared = prepare_pairs(pairs_of(tmp_path / "dicom"), out, preparation=preparation).prepared
    measured = prepared.arrays(prepared.pairs[0]).measured()
    assert not measured[:, 0, 0].any() and measured[:, 2:, 2:].all()


# -- writing that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrays_before_death", [0, 1, 2, 3])
def test_a_killed_process_leaves_no_partial_pair(studies: Path, out: Path, arrays_before_death: int) -> None:
    pairs = pairs_of(studies)
    child = os.fork()
    if child == 0:
        save, saved = np.save, 0

        def save_and_die(path: Path, array: NDArray[np.generic]) -> None:
            nonlocal saved
            if saved == 3 + arrays_before_death:  # the first pair is whole
                os.kill(os.getpid(), signal.SIGKILL)
            saved += 1
            save(path, array)
            if saved == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        np.save = save_and_die
        prepare_pairs(pairs, out, preparation=TINY)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    whole = [folder.name for folder in (out / "pairs").iterdir() if not folder.name.startswith(".")]
    assert whole == [pair_id(pairs[0].pair)] and not (out / "index.json").exists()
    again = prepare_pairs(pairs, out, preparation=TINY)
    assert (again.reused, again.failed) == (1, ())
    assert sorted(folder.name for folder in (out / "pairs").iterdir()) == sorted(pair_id(one.pair) for one in pairs)


def test_a_full_disk_is_an_error_and_leaves_no_partial_pair(studies: Path, out: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))  # an array's header is 128 bytes, the array 360
    try:
        report = prepare_pairs(pairs_of(studies), out, preparation=TINY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(report.failed) == 2 and not report.prepared.pairs
    assert "cannot be written (" in report.failed[0].reason and "None" not in report.failed[0].reason
    assert "; free space or choose another folder" in report.failed[0].reason
    assert not list((out / "pairs").iterdir())


def test_a_folder_that_cannot_be_created_is_an_error(studies: Path, out: Path) -> None:
    out.write_text("in the way")
    with pytest.raises(PreparedDataError, match=r"arrays: cannot be written .*; choose another folder"):
        prepare_pairs(pairs_of(studies), out, preparation=TINY)


def test_a_second_process_waits_for_the_arrays_that_the_first_prepares(
    studies: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out.mkdir(parents=True)
    first = FileLock(out / LOCK_FILE)

    class ReleaseWhenAwaited(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another process is preparing arrays in this folder" in record.getMessage():
                first.release()

    caplog.set_level(logging.INFO)
    handler = ReleaseWhenAwaited()
    logging.getLogger("lib.pairing").addHandler(handler)
    try:
        with first:
            report = prepare_pairs(pairs_of(studies), out, preparation=TINY)
            assert not first.is_locked
    finally:
        logging.getLogger("lib.pairing").removeHandler(handler)
    assert report.prepared.pairs
