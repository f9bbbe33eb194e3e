"""Which label map belongs to which CT: references, names, geometry, and refusals with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lib.errors import InputError, PairingError
from lib.imaging.files.label_file import write_label_file
from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelMap, Organs
from lib.pairing.label_maps import LabelMaps, find_label_maps, place_organs
from lib.types import Series

UIDS = ("1.2.3", "1.2.3.4", "1.2.30")
PATIENTS = ("P1", "P1-2", "P2")
SHAPE = (4, 8, 8)


def series(number: int, *, patient: str = "") -> Series:
    uid = UIDS[number]
    return Series(uid, "9", patient or PATIENTS[number], "CT", f"{uid}.9", "", (Path("ct.dcm"),))


CTS = tuple(series(number) for number in range(3))


def grid(x_mm: float = 0.0) -> Geometry:
    return Geometry.from_dicom(
        SHAPE, first_position_mm=(x_mm, 0, 0), orientation=(1, 0, 0, 0, 1, 0), pixel_spacing_mm=(2, 2),
        slice_spacing_mm=3,
    )  # fmt: skip


def label_map(name: str = "liver", *, x_mm: float = 0.0) -> LabelMap:
    labels = np.zeros(SHAPE, np.uint16)
    labels[1:3, 2:6, 2:6] = 1
    return LabelMap(Organs(labels, (name,)), grid(x_mm))


def write(path: Path, *, x_mm: float = 0.0) -> None:
    write_label_file(label_map(x_mm=x_mm), path)


def found(maps: LabelMaps) -> dict[str, list[str]]:
    return {uid: [source.name for source in sources] for uid, sources in maps.candidates.items()}


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("1.2.3.nii.gz", "1.2.3"),
        ("1.2.3.4.nii.gz", "1.2.3.4"),
        ("x_1.2.30_seg.nii", "1.2.30"),
        ("1.2.3/liver.nii.gz", "1.2.3"),
        ("P1_ml.nii.gz", "1.2.3"),
        ("P1-2.nii.gz", "1.2.3.4"),
        ("study/P2/segmentations/organs.nii.gz", "1.2.30"),
        ("P22.nii.gz", None),
        ("xP2.nii.gz", None),
        ("1.2.3.40.nii.gz", None),
    ],
)
def test_a_name_belongs_to_the_ct_with_the_longest_match(tmp_path: Path, path: str, owner: str | None) -> None:
    write(tmp_path / path)
    assert found(find_label_maps(tmp_path, CTS)) == {uid: [path] * (uid == owner) for uid in UIDS}


def test_files_without_a_name_table_are_organs_of_one_map(tmp_path: Path) -> None:
    from tests.imaging.files.test_label_file import labelled
    from tests.imaging.files.test_label_file import write as write_nifti

    for name in ("liver", "spleen"):
        write_nifti(tmp_path / "P2" / f"{name}.nii.gz", labelled(1))
    write_nifti(tmp_path / "tables" / "P1.nii.gz", labelled(1))
    (tmp_path / "tables" / "labels.json").write_text(json.dumps({"1": "liver"}))
    maps = find_label_maps(tmp_path, CTS)
    assert found(maps) == {"1.2.3": ["tables/P1.nii.gz"], "1.2.3.4": [], "1.2.30": ["P2"]}
    (source,) = maps.candidates["1.2.30"]
    assert source.is_by_organ and [path.name for path in source.files] == ["liver.nii.gz", "spleen.nii.gz"]
    (named,) = maps.candidates["1.2.3"]
    assert named.names == tmp_path / "tables" / "labels.json" and named.read().organs.names == ("liver",)


def test_a_table_of_names_does_not_apply_to_a_folder_with_one_file_per_organ(tmp_path: Path) -> None:
    from tests.imaging.files.test_label_file import labelled
    from tests.imaging.files.test_label_file import write as write_nifti

    (tmp_path / "labels.json").write_text(json.dumps({"1": "kidney_left", "2": "liver"}))
    write_nifti(tmp_path / "P1.nii.gz", labelled(1))
    for name in ("Left Kidney", "spleen"):
        write_nifti(tmp_path / "P2" / f"{name}.nii.gz", labelled(1))
    maps = find_label_maps(tmp_path, CTS)
    assert found(maps) == {"1.2.3": ["P1.nii.gz"], "1.2.3.4": [], "1.2.30": ["P2"]}
    assert [source.read().organs.names for source in maps.candidates["1.2.3"]] == [("kidney_left",)]
    assert [source.is_by_organ for source in maps.candidates["1.2.30"]] == [True]


def test_a_series_uid_outranks_a_patient_id(tmp_path: Path) -> None:
    write(tmp_path / "P1.nii.gz")
    write(tmp_path / "1.2.3.nii.gz")
    assert found(find_label_maps(tmp_path, CTS[:1])) == {"1.2.3": ["1.2.3.nii.gz"]}


def test_a_single_ct_needs_no_name(tmp_path: Path) -> None:
    write(tmp_path / "anything.nii.gz")
    assert found(find_label_maps(tmp_path, CTS[:1])) == {"1.2.3": ["anything.nii.gz"]}
    assert found(find_label_maps(tmp_path, CTS[:2])) == {"1.2.3": [], "1.2.3.4": []}


def test_the_grid_decides_between_two_studies_of_a_patient(tmp_path: Path) -> None:
    first, second = series(0, patient="P"), series(2, patient="P")
    write(tmp_path / "P_early.nii.gz")
    write(tmp_path / "P_late.nii.gz", x_mm=4.0)
    maps = find_label_maps(tmp_path, [first, second])
    assert maps.read(second, grid(4.0)).geometry.origin_mm[0] == pytest.approx(4.0)
    write(tmp_path / "P_again.nii.gz")
    with pytest.raises(PairingError, match=r"2 label maps fit CT 1\.2\.3, expected one .*P_again.*P_early") as caught:
        find_label_maps(tmp_path, [first, second]).read(first, grid())
    assert "name it by the series UID" in str(caught.value)


def test_a_ct_without_a_label_map_is_told_what_was_unreadable(tmp_path: Path) -> None:
    (tmp_path / "P1.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(PairingError, match=r"no label map of CT 1\.2\.3: .*; P1\.nii\.gz: cannot be read"):
        find_label_maps(tmp_path, CTS).read(CTS[0], grid())
    with pytest.raises(InputError, match="no such folder"):
        find_label_maps(tmp_path / "absent", CTS)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside" / "P1.nii.gz")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "P1.nii.gz").symlink_to(tmp_path / "outside" / "P1.nii.gz")
    (tmp_path / "labels" / "P2").symlink_to(tmp_path / "outside")
    assert not any(found(find_label_maps(tmp_path / "labels", CTS)).values())


def test_organs_must_be_in_the_field_of_view_and_in_the_body(tmp_path: Path) -> None:
    everywhere = np.ones(SHAPE, np.bool_)
    organs = place_organs(label_map(), grid(), body=everywhere, measured=everywhere)
    np.testing.assert_array_equal(organs.labels, label_map().organs.labels)
    with pytest.raises(PairingError, match="does not overlap the CT"):
        place_organs(label_map(x_mm=100.0), grid(), body=everywhere, measured=everywhere)
    body = everywhere.copy()
    body[:, :, :4] = False  # half of the organ
    with pytest.raises(PairingError, match="50% of its voxels are inside the body, expected at least 70%"):
        place_organs(label_map(), grid(), body=body, measured=everywhere)
    assert place_organs(label_map(), grid(), body=body, measured=body).names == ("liver",)
