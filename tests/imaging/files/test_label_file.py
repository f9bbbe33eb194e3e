"""Label maps as NIfTI: names in the header or in JSON, folders of organs, and damaged or malicious files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from lib.errors import ImageFileError
from lib.imaging.files.label_file import (
    header_names,
    json_names,
    nifti_stem,
    read_label_file,
    read_organ_files,
    write_label_file,
)
from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelMap, Organs

SHAPE = (3, 4, 5)  # columns, rows, slices: NIfTI's order
# as TotalSegmentator writes it: nifti_ext_header.py, version 2
TABLE = (
    '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <Date><![CDATA[2013-07-14T05:45:09]]></Date>   '
    '<VolumeInformation Index="0">   <LabelTable>\n'
    '<Label Key="1" Red="1.0" Green="0.0" Blue="0.0" Alpha="1"><![CDATA[spleen]]></Label>\n'
    '<Label Key="5" Red="1.0" Green="0.0" Blue="0.0" Alpha="1"><![CDATA[liver]]></Label>\n'
    "\n  </LabelTable>  <StudyMetaDataLinkSet>  </StudyMetaDataLinkSet>  <VolumeType><![CDATA[Label]]></VolumeType>   "
    "</VolumeInformation></CaretExtension>\n              "
)


def write(path: Path, values: Any, *, table: str = "", dtype: str = "uint8", x_mm: float = 0.0) -> Path:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 3] = x_mm
    image = nibabel.Nifti1Image(np.asarray(values, dtype), affine)
    image.header.set_xyzt_units("mm")
    if table:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, table.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def labelled(value: float = 5) -> np.ndarray:
    values = np.zeros(SHAPE)
    values[0, 1, 2], values[2, 3, 4] = value, 1
    return values


def test_names_are_read_from_the_table_in_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", labelled(), table=TABLE)
    assert header_names(path) == {1: "spleen", 5: "liver"}
    found = read_label_file(path)
    assert found.organs.names == ("liver", "spleen")
    assert np.argwhere(found.organs.mask("liver")).tolist() == [[2, 1, 0]]  # slice, row, column
    assert found.geometry.spacing_mm == (3.0, 2.0, 2.0)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_label_maps_are_read_again(tmp_path: Path, suffix: str) -> None:
    labels = np.arange(24, dtype=np.uint16).reshape(2, 3, 4) % 3
    geometry = Geometry.from_dicom(
        (2, 3, 4), first_position_mm=(1, 2, 3), orientation=(1, 0, 0, 0, 1, 0), pixel_spacing_mm=(1.5, 2),
        slice_spacing_mm=4,
    )  # fmt: skip
    path = write_label_file(LabelMap(Organs(labels, ("a & b", "c<d")), geometry), tmp_path / "new" / f"x{suffix}")
    assert header_names(path) == {1: "a & b", 2: "c<d"}
    found = read_label_file(path)
    np.testing.assert_array_equal(found.organs.labels, labels)
    assert found.geometry.same_grid_as(geometry)


@pytest.mark.parametrize(
    "document",
    [{"1": "spleen", "5": "liver"}, {"spleen": 1, "liver": 5}, {"labels": {"background": 0, "spleen": 1, "liver": 5}}],
)
def test_names_are_read_from_json(tmp_path: Path, document: Any) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(document))
    assert json_names(tmp_path / "labels.json") == {1: "spleen", 5: "liver"}


@pytest.mark.parametrize(
    "content",
    ["[1, 2]", "{", '{"1": 2.5}', '{"-1": "liver"}', '{"1": null}', '{"70000": "liver"}', "[" * 100_000, '{"x": "y"}'],
)
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(ImageFileError, match=r"labels\.json: not a table of label names"):
        json_names(tmp_path / "labels.json")


@pytest.mark.parametrize(
    "table",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><C><LabelTable><Label Key="1">&a;</Label></LabelTable></C>',
        '<C><LabelTable><Label Key="one">liver</Label></LabelTable></C>',
        '<C><LabelTable><Label Key="1"></Label></LabelTable></C>',
        '<C><LabelTable><Label Key="99999999999999999999">liver</Label></LabelTable></C>',
        "<C><LabelTable><Label",
    ],
)
def test_a_damaged_or_malicious_table_is_refused(tmp_path: Path, table: str) -> None:
    path = write(tmp_path / "a.nii.gz", labelled(), table=table)
    with pytest.raises(ImageFileError, match=r"a\.nii\.gz: the label table in its header is damaged"):
        header_names(path)


def test_labels_without_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match="its labels have no names; expected a label table"):
        read_label_file(write(tmp_path / "a.nii.gz", labelled()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (labelled(2.5), "values that are not integers"),
        (labelled(np.nan), "values that are not integers"),
        (labelled(1e30), "expected labels from 0 to 65535"),
        (np.ones((*SHAPE, 2)), "4 dimensions"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(ImageFileError, match=message):
        read_label_file(write(tmp_path / "a.nii.gz", values, table=TABLE, dtype="float32"))


def test_a_folder_has_one_file_per_organ(tmp_path: Path) -> None:
    liver, spleen = np.zeros((2, *SHAPE))
    liver[0], spleen[:2] = 1, 255
    files = [write(tmp_path / f"{name}.nii.gz", values) for name, values in (("spleen", spleen), ("Liver", liver))]
    found = read_organ_files([*files, write(tmp_path / "stomach.nii.gz", np.zeros(SHAPE))])
    assert found.organs.names == ("liver", "spleen")
    assert found.organs.labels[0, 0].tolist() == [1, 2, 0]  # where they overlap, the first by name


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    liver = write(tmp_path / "liver.nii.gz", labelled(1))
    with pytest.raises(ImageFileError, match=r"organs\.nii\.gz: is not binary"):
        read_organ_files([write(tmp_path / "organs.nii.gz", labelled(7))])
    with pytest.raises(ImageFileError, match=r"moved\.nii\.gz: is on another grid"):
        read_organ_files([liver, write(tmp_path / "moved.nii.gz", labelled(1), x_mm=1.0)])
    with pytest.raises(ImageFileError, match="no organ has a voxel"):
        read_organ_files([write(tmp_path / "empty.nii.gz", np.zeros(SHAPE))])


def test_only_nifti_names_have_a_stem() -> None:
    names = ("liver.nii.gz", "Liver.NII", "liver.nrrd", "a.b.nii.gz", ".nii.gz")
    assert [nifti_stem(name) for name in names] == ["liver", "Liver", "", "a.b", ""]
