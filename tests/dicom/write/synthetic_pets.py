"""Builders of synthetic PETs of small CTs without a model: SUV computed from HU."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.dicom.write.pet_series import SyntheticSeries
from lib.dicom.write.plan import SourceModel, plan_series
from lib.imaging.volume import Unit, Volume
from lib.types import Series
from tests.dicom.builders import write_series

# dciodvfy 1.00~20220618 is older than SyntheticData (2022), so this error is expected
WANTED = "Error - </(0008,001c)> - Attribute with an even group number is not a recognized standard attribute"
MODEL = SourceModel(model="cascade3 of a test", checksum="0123456789abcdef" * 4, version="0.1.0")
WHEN = {"StudyTime": "100000", "SeriesDate": "20200102", "SeriesTime": "101500.25"}


def ct_in(folder: Path, **attributes: Any) -> Series:
    """Write a CT of five slices with all attributes that a PET requires, and return its scanned series."""
    write_series(folder, **(WHEN | attributes))
    return scan_folder(folder).usable("CT")[0].series


def pet_of(ct: Series) -> Volume:
    """Return SUV of 0 to about 10 on the CT's grid; all slices differ."""
    volume = read_ct(ct)
    return Volume(((volume.array + 1024) / 300).astype(np.float32), volume.geometry, Unit.SUV_BW)


def synthetic_of(ct: Series, source_model: SourceModel = MODEL) -> SyntheticSeries:
    """Return the synthetic series of a CT."""
    return plan_series(ct, source_model).fill(pet_of(ct))


def saved_by_pydicom(series: SyntheticSeries) -> list[tuple[str, bytes]]:
    """Return the files of a series as pydicom encodes its datasets."""
    saved = []
    for k, dataset in enumerate(series.datasets(), start=series.first + 1):
        file = BytesIO()
        dataset.save_as(file, write_like_original=False)
        saved.append((f"{k:04d}.dcm", file.getvalue()))
    return saved


def dciodvfy_errors(program: str, path: Path) -> list[str]:
    """Return the errors that dciodvfy reports for a synthetic PET, without the expected one, which must be present."""
    run = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, errors="replace", check=False)
    lines = [line.strip() for line in run.stderr.splitlines()]
    assert "PETImage" in lines and WANTED in lines, run.stderr
    return [line for line in lines if line.startswith("Error") and line != WANTED]
