"""Submission of training pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ForbiddenError, InvalidResponseError, RefusedError
from CT2PETLib.client.pair_submission import zip_of

from lib.phantom.generate import write_phantoms
from tests.slicer.client.conftest import SLICES, SMALL, Clinic

pytestmark = [pytest.mark.server, pytest.mark.slow]


def series(folder: Path, name: str) -> tuple[Path, ...]:
    return tuple(sorted((folder / name).iterdir()))


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return the folders of two phantoms that the server does not have."""
    return write_phantoms(tmp_path_factory.mktemp("new"), patients=2, seed=11, settings=SMALL)


def test_pair_is_submitted_without_duplicates(clinic: Clinic, patients: tuple[Path, ...]) -> None:
    client = clinic.client("ann")
    progress: list[tuple[int, int]] = []
    ct, pet = (series(patients[0], name) for name in ("CT", "PET"))
    first = client.submit_pair(ct, pet, progress=lambda sent, total: progress.append((sent, total)))
    assert (first.check, first.side in ("train", "validation", "test")) == ("plausible", True)
    assert first.added == 2 * SLICES
    assert progress[-1][0] == progress[-1][1] > 2 * SLICES * 4096
    assert str(first).startswith(f"The pair is stored, {2 * SLICES} files are new to the server; models ")
    second = client.submit_pair((), pet)  # the server has the CT
    assert (second.ct_uid, second.pet_uid, second.added) == (first.ct_uid, first.pet_uid, 0)
    assert "the server had it already" in str(second)
    assert [pair.pet_uid for pair in client.pairs()].count(first.pet_uid) == 1
    study = client.study(first.ct_uid)
    assert study is not None and study.has_real_pet


def test_pair_of_two_patients_is_refused(clinic: Clinic, patients: tuple[Path, ...]) -> None:
    with pytest.raises(RefusedError, match=r"frame of reference|study|belong"):
        clinic.client("ann").submit_pair(series(patients[0], "CT"), series(patients[1], "PET"))


def test_reader_cannot_submit(clinic: Clinic, patients: tuple[Path, ...]) -> None:
    with pytest.raises(ForbiddenError, match="Not permitted"):
        clinic.client("una").submit_pair(series(patients[1], "CT"), series(patients[1], "PET"))


def test_file_names_are_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "Doe^Jane.dcm"
    file.write_bytes(b"x")
    assert b"Doe" not in zip_of([file])


def test_volume_without_dicom_files_cannot_be_submitted(tmp_path: Path) -> None:
    client = Client("127.0.0.1:9")
    with pytest.raises(InvalidResponseError, match="load it from the DICOM database"):
        client.submit_pair((), ())
    with pytest.raises(InvalidResponseError, match="cannot be read"):
        client.submit_pair((), (tmp_path / "gone.dcm",))
