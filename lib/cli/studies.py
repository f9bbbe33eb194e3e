"""Steps that several commands begin with: scan a folder, pair its series, prepare arrays, start tracking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib.cli.console import print_line, progress_bar, stderr
from lib.errors import InputError

if TYPE_CHECKING:
    from lib.dicom.scan.scan import ScanReport
    from lib.learning.recipe import Recipe
    from lib.learning.tracking.options import Tracking
    from lib.pairing.pairs import PairingReport
    from lib.pairing.prepare import PreparationReport
    from lib.pairing.prepared import PreparedSet


def scan_studies(studies: Path) -> ScanReport:
    """Return the series of a folder; reads headers only."""
    from lib.dicom.scan.header_index import default_index
    from lib.dicom.scan.scan import require_series, scan_folder

    with progress_bar() as progress:
        return require_series(scan_folder(studies, index=default_index(), progress=progress))


def find_pairs(scan: ScanReport, *, register: bool, preferred_ct: Sequence[str] = ()) -> PairingReport:
    """Return the pairs of a scan; with `register`, including those that registration adds."""
    from lib.pairing.pairs import pair_series

    pairing = pair_series(scan, preferred_ct=frozenset(preferred_ct))
    if not register:
        return pairing
    from lib.pairing.registration import register_unpaired

    with progress_bar() as progress:
        return register_unpaired(scan, pairing, progress=progress)


def prepare_studies(
    studies: Path, out: Path, recipe: Recipe, *, register: bool, labels: Path | None = None
) -> PreparationReport:
    """Write the pairs of a folder as arrays; pairs that fail, or have no label map, are reported on stderr."""
    from lib.pairing.label_maps import find_label_maps
    from lib.pairing.prepare import prepare_pairs

    scan = scan_studies(studies)
    pairs = find_pairs(scan, register=register).pairs
    label_maps = None if labels is None else find_label_maps(labels, [paired.pair.ct for paired in pairs])
    with progress_bar() as progress:
        report = prepare_pairs(
            pairs, out, preparation=recipe.preparation, scan=scan, labels=label_maps, progress=progress
        )
    for failure in report.failed:
        print_line(f"skipped: {failure.patient_id}: {failure.reason}", stderr)
    for failure in report.without_organs:
        print_line(f"no organs: {failure.patient_id}: {failure.reason}", stderr)
    return report


def open_or_prepare(
    studies: Path, out: Path, recipe: Recipe, *, register: bool = False, labels: Path | None = None
) -> PreparedSet:
    """Return the arrays of a folder that `prepare` wrote; of a folder of studies, those written to OUT/prepared.

    Raises:
        InputError: Label maps were given for arrays.
    """
    from lib.pairing.prepared import PreparedSet

    if (studies / "index.json").is_file():
        if labels is not None:
            raise InputError(f"{studies} has arrays; give --labels to `prepare`, which stores the organs with them")
        return PreparedSet.open(studies)
    return prepare_studies(studies, out / "prepared", recipe, register=register, labels=labels).prepared


def start_tracking(name: str, *, uri: str, experiment: str) -> Tracking | None:
    """Return the requested tracking, with MLflow configured for this process; None without tracking.

    Raises:
        InputError: Unknown name, or MLflow is not installed.
    """
    from lib.learning.tracking.mlflow_logger import configure_mlflow_process
    from lib.learning.tracking.options import parse_tracking

    tracking = parse_tracking(name, uri=uri, experiment=experiment)
    if tracking is not None:
        configure_mlflow_process()
    return tracking
