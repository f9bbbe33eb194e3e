"""download.json and ATTRIBUTION.md keep the attribution of all fetched series."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.download.manifest import read_manifest, series_folder, write_manifest
from lib.errors import InputError
from tests.download.idc_server import listed

LUNG = {"collection_id": "lung_pet_ct_dx", "doi": "10.7937/TCIA.2020.nnc2-0461"}


def test_attribution_names_authors_licence_and_source(idc_index: None, tmp_path: Path) -> None:
    write_manifest(tmp_path, [listed("CT", **LUNG), listed("PT", **LUNG)])
    text = (tmp_path / "ATTRIBUTION.md").read_text()
    for message in (
        "## A Large-Scale CT and PET/CT Dataset for Lung Cancer Diagnosis",
        "(2020). A Large-Scale CT and PET/CT Dataset for Lung Cancer Diagnosis (Version 5) [Data set].",
        "collection lung_pet_ct_dx: 1 patients, 2 series",
        "CC BY 4.0 (Creative Commons Attribution 4.0 International License) https://creativecommons.org/licenses/by/4.0/",
        "https://doi.org/10.7937/tcia.2020.nnc2-0461",
    ):
        assert message in text


def test_source_missing_in_the_index_is_cited_by_doi(idc_index: None, tmp_path: Path) -> None:
    write_manifest(tmp_path, [listed("CT", licence="CC BY-NC 4.0")])
    text = (tmp_path / "ATTRIBUTION.md").read_text()
    assert "Cite it as https://doi.org/10.1/made.up says." in text and "- licence: CC BY-NC 4.0\n" in text


def test_second_cohort_keeps_attribution_of_the_first(idc_index: None, tmp_path: Path) -> None:
    write_manifest(tmp_path, [listed("CT", series_instance_uid="1.1")])
    write_manifest(tmp_path, [listed("CT", series_instance_uid="1.2", **LUNG)])
    assert [entry.series_instance_uid for entry in read_manifest(tmp_path)] == ["1.1", "1.2"]
    text = (tmp_path / "ATTRIBUTION.md").read_text()
    assert "made_up" in text and "lung_pet_ct_dx" in text


def test_a_series_is_complete_when_files_and_bytes_are(idc_index: None, tmp_path: Path) -> None:
    series = listed("CT", images=2, size_bytes=7)
    folder = series_folder(tmp_path, series)
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(b"1234")
    assert [entry.complete for entry in write_manifest(tmp_path, [series])] == [False]
    (folder / "b.dcm").write_bytes(b"567")
    assert [entry.complete for entry in write_manifest(tmp_path, [series])] == [True]
    (folder / "b.dcm").write_bytes(b"56")
    assert [entry.complete for entry in write_manifest(tmp_path, [series])] == [False]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"series": [{"color": "red"}]}', '{"series": [1]}'])
def test_foreign_manifest_is_not_overwritten(idc_index: None, tmp_path: Path, text: str) -> None:
    (tmp_path / "download.json").write_text(text)
    with pytest.raises(InputError, match="not the manifest of a download"):
        write_manifest(tmp_path, [listed()])
    assert (tmp_path / "download.json").read_text() == text


@pytest.mark.parametrize(
    ("patient_id", "folder"),
    [("Lung_Dx-B0033", "Lung_Dx-B0033"), ("../../etc", "_.._etc"), ("a/b c", "a_b_c"), ("..", "_"), ("ü*", "__")],
)
def test_folders_stay_inside(tmp_path: Path, patient_id: str, folder: str) -> None:
    path = series_folder(tmp_path, listed(patient_id=patient_id))
    assert path.relative_to(tmp_path).parts == (folder, "1.2.3", listed(patient_id=patient_id).series_instance_uid)


def test_manifest_states_the_index_version(idc_index: None, tmp_path: Path) -> None:
    write_manifest(tmp_path, [listed()])
    manifest = json.loads((tmp_path / "download.json").read_text())
    assert manifest["archive"] == "Imaging Data Commons" and manifest["index"].startswith("idc-index-data ")
