"""Uploads of a CT and a PET: unpack them, compare them with the series of the datastore, and check them before storing.

A rejected upload leaves nothing behind. If the datastore has every instance of a series already, its copy is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct2pet_app.datastore.ct_source import unpack
from ct2pet_app.datastore.study_index import Studies, StudyIndex, instances_in
from ct2pet_app.errors import ClientDisconnectedError, RequestError
from ct2pet_app.server.concurrency import IsDisconnected, never, until_disconnected
from lib.dicom.scan.open_ct import read_ct_series
from lib.dicom.scan.scan import ScannedSeries, ScanReport, scan_folder
from lib.errors import PairingError
from lib.imaging.files.memory_estimate import series_read_bytes
from lib.memory import MemoryBudget
from lib.pairing.pairs import PairedSeries, pair_series
from lib.pairing.quality_checks.plausibility import PairCheck, check_bytes, check_pair


@dataclass(frozen=True, eq=False)
class PairUpload:
    """A pair with at least one new series or instance.

    Attributes:
        paired: The resulting pair, of uploaded series and series of the datastore.
        here: The series of the two that are in the datastore already.
        new: Files to store, by series UID; empty if no instance is missing.
        left_out: Why series of the upload were not used, by UID; under `files`, files that are not images.
    """

    paired: PairedSeries
    here: tuple[ScannedSeries, ...]
    new: Mapping[str, tuple[Path, ...]]
    left_out: Mapping[str, str]


def unpacked(archives: Mapping[str, Path], folder: Path) -> ScanReport:
    """Unpack and scan zips with one usable CT and one usable PET, or with a PET only.

    Args:
        archives: By form field: `ct` and `pet`, `pet` alone, or `study`.
        folder: An empty folder, into which the files are unpacked.

    Raises:
        RequestError: Another combination of fields.
        ImageFileError: Not a zip, damaged, or far too large.
        PairingError: Not exactly one usable CT and PET; the message lists every series with its reason.
    """
    if sorted(archives) not in (["ct", "pet"], ["pet"], ["study"]):
        raise RequestError(
            f"found {' and '.join(sorted(archives)) or 'no file'}: send ct and pet, a .zip of one DICOM series each; "
            "or study, a .zip of both; or pet only, if its CT is in the datastore"
        )
    for field, archive in archives.items():
        (folder / field).mkdir()
        unpack(archive, folder / field, f"{field}.zip")
    report = scan_folder(folder)
    for modality, name in (("CT", "CT"), ("PT", "PET")):
        expected = 0 if modality == "CT" and sorted(archives) == ["pet"] else 1
        usable = report.usable(modality)
        if len(usable) != expected:
            raise PairingError(
                f"{len(usable)} usable {name} series, expected {expected or 'none if only pet is sent'}; "
                f"{_list_series(report)}"
            )
    return report


def incoming_pair(uploaded: ScanReport, listing: StudyIndex, studies: Studies) -> PairUpload:
    """Return the pair that the uploaded series form, if needed with a CT of the datastore.

    Raises:
        PairingError: They do not form a pair; the message gives the reason.
    """
    own = {found.series.modality: found for found in uploaded.series if found.is_usable}
    _refuse_conflicts(own.values(), listing)
    here, new = [], {}
    for modality, found in own.items():
        known = listing.report.find(found.series.uid)
        missing = _missing(found, known, studies)
        if missing:
            new[found.series.uid] = missing
        if known is not None and not missing:
            own[modality] = known
            here.append(known)
    pet = own["PT"]
    frame = (pet.series.patient_id, pet.series.frame_of_reference_uid)
    mine = {pet.series.study_uid, *(found.series.study_uid for found in own.values())}
    related = [
        found
        for found in listing.report.series
        if found.series.study_uid in mine or (found.series.patient_id, found.series.frame_of_reference_uid) == frame
    ]
    taken = {found.series.uid for found in own.values()}
    together = (*own.values(), *(found for found in related if found.series.uid not in taken))
    report = pair_series(ScanReport(listing.report.root, (), together, ()))
    paired = next((one for one in report.pairs if one.pet is pet and one.ct is own.get("CT", one.ct)), None)
    if paired is None:
        why = {one.series_uid: one.reason for one in report.unpaired}
        named = ", ".join(f"{found.series.modality} {found.series.uid}" for found in own.values())
        reason = next((why[found.series.uid] for found in own.values() if found.series.uid in why), "")
        raise PairingError(f"{named}: no pair: {reason or 'another CT is paired with this PET'}")
    if "CT" not in own:
        here.append(paired.ct)
    left_out = {found.series.uid: str(found.reason) for found in uploaded.series if not found.is_usable}
    if uploaded.skipped:
        left_out["files"] = f"{len(uploaded.skipped)} that are not DICOM images, first: {uploaded.skipped[0].reason}"
    return PairUpload(paired, tuple(here), new, left_out)


def check_incoming(
    incoming: PairUpload, studies: Studies, *, budget: MemoryBudget, is_disconnected: IsDisconnected = never
) -> PairCheck:
    """Return the check of an uploaded pair; every uploaded pixel is read.

    Raises:
        DicomError: A file is damaged.
        ImageFileError: The CT's values are not HU.
        MemoryLimitError: The pair is larger than the memory budget.
        OperationCancelledError: The client has disconnected.
        RemoteError: The series cannot be fetched from the PACS.
    """
    paired = incoming.paired
    assert paired.ct.geometry is not None  # of every usable series
    needed = max(series_read_bytes(paired.ct.geometry.shape), check_bytes(paired))
    with (
        studies.local_files(*(found.series for found in incoming.here), cancelled=is_disconnected),
        budget.reserve(
            needed, f"checking a pair of {paired.ct.series.slice_count} CT slices", cancelled=is_disconnected
        ),
    ):
        if incoming.new:
            read_ct_series(
                paired.pair.ct, progress=until_disconnected(is_disconnected)
            )  # the check reads some slices of it
        if is_disconnected():
            raise ClientDisconnectedError("the client has disconnected")
        return check_pair(paired)


def _missing(found: ScannedSeries, known: ScannedSeries | None, studies: Studies) -> tuple[Path, ...]:
    """Return the files of an uploaded series whose instances the datastore lacks.

    Raises:
        PairingError: The datastore has other instances of the series: the merged series would not be the checked one.
    """
    files = found.series.files
    if known is None:
        return files
    there, sent = set(studies.instances(known.series)), instances_in(files)
    if there - set(sent) and set(sent) - there:
        raise PairingError(
            f"series {found.series.uid} is in the datastore already, with {len(there - set(sent))} instances that the "
            "upload lacks; send the complete series"
        )
    return tuple(path for path, uid in zip(files, sent, strict=True) if uid not in there)


def _refuse_conflicts(own: Collection[ScannedSeries], listing: StudyIndex) -> None:
    """Refuse a study that the datastore has under another patient, and a series that it has in another study."""
    for found in own:
        for there in listing.report.series:
            same_study = there.series.study_uid == found.series.study_uid
            if same_study and there.series.patient_id != found.series.patient_id:
                raise PairingError(
                    f"study {found.series.study_uid} is in the datastore already, under another PatientID"
                )
            if there.series.uid == found.series.uid and not same_study:
                raise PairingError(
                    f"series {found.series.uid} is in the datastore already, in study {there.series.study_uid}"
                )


def _list_series(report: ScanReport) -> str:
    listed = "; ".join(
        f"{found.series.modality} {found.series.uid}: {found.reason or f'usable, {found.series.slice_count} slices'}"
        for found in report.series
    )
    return f"found {listed or 'no DICOM series'}"
