"""Read and write label maps as NIfTI: one file with the names of its labels, or a folder with one file per organ.

Names are read from the label table that TotalSegmentator writes into the header (a Caret extension), or from JSON:
`{"1": "liver"}`, `{"liver": 1}`, or either under the key `labels`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np

from lib.errors import ImageFileError, OutputError
from lib.files import atomic_file
from lib.imaging.files.nifti import read_extensions, write_nifti_labels
from lib.imaging.files.volume_file import NIFTI, read_voxels
from lib.imaging.label_map import MAX_LABEL, LabelArray, LabelMap, Organs, label_map, organ_name
from lib.types import FloatArray

MAX_JSON_BYTES = 2**20  # the names of 117 organs take 3 kB


def nifti_stem(name: str) -> str:
    """Return a NIfTI file's name without its suffix; empty if it has none of `NIFTI`."""
    return next((name[: -len(suffix)] for suffix in NIFTI if name.lower().endswith(suffix)), "")


def header_names(path: Path) -> dict[int, str]:
    """Return the name of each label from the label table in a NIfTI header; empty without a table.

    Raises:
        ImageFileError: The header or the table is damaged.
    """
    try:
        extensions = read_extensions(path)
    except OSError as error:
        raise ImageFileError(f"{path.name}: cannot be opened ({error.strerror})") from error
    for content in extensions:
        text = content.rstrip(b"\0 \n").decode("utf-8", errors="replace")
        if "<LabelTable" in text:
            return _table_names(text, path.name)
    return {}


def json_names(path: Path) -> dict[int, str]:
    """Return the name of each label from a JSON file.

    Raises:
        ImageFileError: The file cannot be opened, or has another content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise ValueError(f"over {MAX_JSON_BYTES} bytes")
        document = json.loads(content)
        return _checked_names(document.get("labels", document))
    except OSError as error:
        raise ImageFileError(f"{path.name}: cannot be opened ({error.strerror})") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImageFileError(
            f'{path.name}: not a table of label names ({error}); expected JSON such as {{"1": "liver"}}'
        ) from error


def read_label_file(path: Path, *, names: Path | None = None) -> LabelMap:
    """Return the label map of a NIfTI file.

    Args:
        path: The file.
        names: JSON file with the names of the labels; by default those of the header's label table.

    Raises:
        ImageFileError: See `read_volume_file` and `label_map`; or there are no names.
    """
    known = header_names(path) or ({} if names is None else json_names(names))
    if not known:
        raise ImageFileError(
            f"{path.name}: its labels have no names; expected a label table in its header, as TotalSegmentator writes "
            'it, or a file labels.json in its folder, such as {"1": "liver"}'
        )
    values, geometry = read_voxels(path)
    return label_map(values, geometry, known, what=path.name)


def read_organ_files(paths: Iterable[Path]) -> LabelMap:
    """Return the label map of binary NIfTI files on one grid, each named by its organ: `liver.nii.gz`.

    Where organs overlap, the voxel belongs to the first of them by name. Files without a voxel are ignored.

    Raises:
        ImageFileError: See `read_volume_file`; or a file is not binary, has another grid, or no file has a voxel.
    """
    labels: LabelArray | None = None
    names: list[str] = []
    for path in sorted(paths, key=lambda path: organ_name(nifti_stem(path.name))):
        values, geometry = read_voxels(path)
        _refuse_not_binary(values, path.name)
        if labels is None:
            labels, grid = np.zeros(geometry.shape, np.uint16), geometry
        elif not geometry.same_grid_as(grid):
            raise ImageFileError(f"{path.name}: is on another grid than the other organs of its folder")
        name = organ_name(nifti_stem(path.name))
        if name and values.any():
            names += [name] * (name not in names)
            labels[(labels == 0) & (values > 0)] = names.index(name) + 1
    if labels is None or not names:
        raise ImageFileError("no organ has a voxel in any of the files")
    return LabelMap(Organs(labels, tuple(names)), grid)


def write_label_file(label_map: LabelMap, path: Path) -> Path:
    """Write a label map to a NIfTI file atomically, with its names in a label table; return `path`.

    Raises:
        OutputError: The file cannot be written.
    """
    table = "\n".join(
        f'<Label Key="{value}" Red="1" Green="0" Blue="0" Alpha="1">{escape(name)}</Label>'
        for value, name in enumerate(label_map.organs.names, start=1)
    )
    extension = (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0"><LabelTable>'
        f"{table}</LabelTable><VolumeType>Label</VolumeType></VolumeInformation></CaretExtension>"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            write_nifti_labels(label_map, temporary, extension=extension.encode())
    except OSError as error:
        raise OutputError(f"{path.name}: cannot be written ({error.strerror}); free space and try again") from error
    return path


def _table_names(text: str, what: str) -> dict[int, str]:
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can expand without limit
            raise ValueError("it has a document type")
        root = ElementTree.fromstring(text.partition("?>")[2] if text.startswith("<?xml") else text)
        return _checked_names({label.get("Key"): label.text for label in root.iter("Label")})
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise ImageFileError(f"{what}: the label table in its header is damaged ({error})") from error


def _checked_names(names: Mapping[Any, Any]) -> dict[int, str]:
    """Return the names by value; the two may be interchanged.

    Raises:
        ValueError, TypeError: Not integers from 0 to `MAX_LABEL` and texts.
    """
    found: dict[int, str] = {}
    for key, name in names.items():
        value, text = (name, key) if isinstance(name, int) else (int(key), name)
        if not isinstance(text, str) or not 0 <= value <= MAX_LABEL:
            raise ValueError(f"{str(key)[:20]!r} is not a label from 0 to {MAX_LABEL} with a name")
        if value:
            found[value] = text
    return found


def _refuse_not_binary(values: FloatArray, what: str) -> None:
    top = values.max()
    if not 0 <= top <= np.iinfo(np.uint8).max or not all(((one == 0) | (one == top)).all() for one in values):
        raise ImageFileError(f"{what}: is not binary; expected one organ per file, 0 outside and 1 inside")
