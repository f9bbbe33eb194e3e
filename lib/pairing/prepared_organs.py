"""Organs of prepared pairs: label maps on the pairs' grid, stored next to their other arrays."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.errors import InputError, PairingError, PreparedDataError
from lib.files import atomic_file
from lib.imaging.geometry import Geometry
from lib.pairing.label_maps import LabelMaps, place_organs
from lib.pairing.prepared import ORGANS, PreparedPair, PreparedSet, write_entry
from lib.types import Progress, Series, no_progress

logger = logging.getLogger(__name__)


def add_organs_to_all(
    prepared: PreparedSet, cts: Mapping[str, Series], labels: LabelMaps, *, progress: Progress = no_progress
) -> tuple[list[PreparedPair], dict[str, InputError]]:
    """Return the entries of all pairs after `add_organs`, and by pair ID why one has no usable label map.

    Args:
        prepared: The pairs.
        cts: The CT of each pair, by pair ID.
        labels: Label maps of the CTs.
        progress: Called before each pair.

    Raises:
        PreparedDataError: An array cannot be written.
    """
    entries: list[PreparedPair] = []
    faults: dict[str, InputError] = {}
    for number, entry in enumerate(prepared.pairs):
        progress(number, len(prepared.pairs), f"adding the organs of {entry.patient_id}")
        try:
            entries.append(add_organs(prepared, entry, cts[entry.id], labels))
        except PreparedDataError:
            raise
        except InputError as error:
            entries.append(entry)
            faults[entry.id] = error
    return entries, faults


def add_organs(prepared: PreparedSet, entry: PreparedPair, ct: Series, labels: LabelMaps) -> PreparedPair:
    """Store the organs of a pair, unless those of the same files are stored; return its entry of the index.

    The process may be killed at any time: an entry names organs only if their array is complete.

    Raises:
        InputError: The CT has no usable label map; what is stored is unchanged.
        PreparedDataError: The array cannot be written.
    """
    try:
        source = labels.fingerprint(ct)
    except OSError as error:
        raise PairingError(f"CT {ct.uid}: a file of its label map cannot be read ({error.strerror})") from error
    if source and entry.organs_source == source:
        return entry
    geometry = Geometry((max(entry.ct_slices) + 1, *entry.shape[1:]), np.asarray(entry.affine))
    label_map = labels.read(ct, geometry)
    if label_map.note:
        logger.warning("CT %s: %s", ct.uid, label_map.note)
    arrays, chosen = prepared.arrays(replace(entry, organs=())), list(entry.ct_slices)
    body, measured = np.zeros(geometry.shape, np.bool_), np.zeros(geometry.shape, np.bool_)
    body[chosen], measured[chosen] = arrays.body(), arrays.measured()
    organs = place_organs(label_map, geometry, body=body, measured=measured).slices(chosen)
    complete = replace(entry, organs=organs.names, organs_source=source)
    folder = prepared.root / "pairs" / entry.id
    try:
        if entry.organs:
            write_entry(folder, replace(entry, organs=(), organs_source=""))
        _save(folder / f"{ORGANS}.npy", organs.labels)
        write_entry(folder, complete)
    except OSError as error:
        raise PreparedDataError(
            f"{folder}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    return complete


def _save(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.ascontiguousarray(array))
