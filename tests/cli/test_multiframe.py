"""Commands on a multi-frame study give the results of the single-frame study it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lib.dicom.scan.scan import scan_folder
from lib.pairing.prepared import ARRAYS
from tests.cli.runner import SETTINGS, run_json
from tests.dicom.enhanced import Kind, read_slices, write_multi_frame

pytestmark = pytest.mark.usefixtures("own_cache")
PATIENT = "PHANTOM_0002"


@pytest.fixture(params=["legacy", "enhanced"])
def multi_frame(request: pytest.FixtureRequest, studies: Path, tmp_path: Path) -> Path:
    """The second patient's study with two files a series."""
    kind: Kind = request.param
    for folder in ("CT", "PET"):
        slices = read_slices(studies / PATIENT / folder)
        write_multi_frame(slices, tmp_path / "multi" / folder, kind=kind, files=2, seed=8)
    return tmp_path / "multi"


def test_scan_and_pair_give_the_same_json(studies: Path, multi_frame: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, expected = (run_json(capsys, "scan", folder) for folder in (multi_frame, studies / PATIENT))
    assert {**result, "root": ""} == {**expected, "root": ""}
    pairs, expected = (run_json(capsys, "pair", folder) for folder in (multi_frame, studies / PATIENT))
    assert pairs == expected
    (pair,) = pairs
    assert (pair["ct_slices"], pair["pet_slices"], pair["slice_pairs"]) == (10, 10, 10)


def test_prepare_writes_the_same_arrays(
    studies: Path, multi_frame: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = []
    for number, folder in enumerate((multi_frame, studies / PATIENT)):
        out = tmp_path / f"arrays{number}"
        run_json(capsys, "prepare", folder, "--out", out, *SETTINGS)
        (pair,) = (out / "pairs").iterdir()
        arrays.append({name: np.load(pair / f"{name}.npy") for name in ARRAYS})
    for name in ARRAYS:
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])


def test_synthesize_gives_the_same_pet(
    studies: Path, multi_frame: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results: list[dict[str, Any]] = []
    for number, folder in enumerate((multi_frame, studies / PATIENT)):
        out = tmp_path / f"{number}.nrrd"
        results.append(run_json(capsys, "synthesize", folder / "CT", "--model", model, "--out", out))
    assert [{**one, "out": ""} for one in results[:1]] == [{**one, "out": ""} for one in results[1:]]
    first, second = (sitk.ReadImage(str(tmp_path / f"{number}.nrrd")) for number in (0, 1))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))
    assert first.GetOrigin() == second.GetOrigin() and first.GetSpacing() == second.GetSpacing()


def test_synthesize_writes_a_single_frame_series(
    multi_frame: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", model, "--format", "dicom", "--slices", "2:6")
    run_json(capsys, "synthesize", multi_frame / "CT", "--out", tmp_path / "pet", *options)
    (found,) = scan_folder(tmp_path / "pet").series
    assert found.is_synthetic and found.series.slice_count == 4
