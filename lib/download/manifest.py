"""Manifest of a download folder: download.json for programs, ATTRIBUTION.md for users.

Both list everything that was ever fetched into the folder, so that a second cohort keeps the attribution of the first.
They are written before the first image.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.download.idc import IndexedSeries, Source, index_version, read_sources
from lib.download.transfer import downloaded
from lib.errors import InputError
from lib.files import write_text
from lib.mapping import from_mapping

MANIFEST = "download.json"
ATTRIBUTION = "ATTRIBUTION.md"
ARCHIVE = "Imaging Data Commons"


@dataclass(frozen=True)
class FetchedSeries:
    """One series of a download folder; `complete` if its files and bytes equal those in the archive's index."""

    collection_id: str
    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    description: str
    images: int
    size_bytes: int
    licence: str
    doi: str
    url: str
    folder: str
    complete: bool


def series_folder(out: Path, series: IndexedSeries) -> Path:
    """Return the folder of a series: OUT/PatientID/StudyInstanceUID/SeriesInstanceUID."""
    parts = (series.patient_id, series.study_instance_uid, series.series_instance_uid)
    return out.joinpath(*(_safe(part) for part in parts))


def is_complete(out: Path, series: IndexedSeries) -> bool:
    """Return whether the folder of a series has as many files and bytes as the archive's index states."""
    return downloaded(series_folder(out, series)) == (series.images, series.size_bytes)


def write_manifest(out: Path, series: Sequence[IndexedSeries]) -> tuple[FetchedSeries, ...]:
    """Write download.json and ATTRIBUTION.md for these and all previously fetched series; return all of them.

    Raises:
        InputError: The folder has a download.json that is not a manifest.
    """
    now = {one.series_instance_uid: _to_fetched(out, one) for one in series}
    entries = (*(old for old in read_manifest(out) if old.series_instance_uid not in now), *now.values())
    ordered = tuple(sorted(entries, key=lambda one: one.folder))
    header = {"archive": ARCHIVE, "index": f"idc-index-data {index_version()}"}
    listed = [dataclasses.asdict(entry) for entry in ordered]
    write_text(out / MANIFEST, json.dumps({**header, "series": listed}, indent=2, ensure_ascii=False) + "\n")
    sources = {name: read_sources(name) for name in {entry.collection_id for entry in ordered}}
    write_text(out / ATTRIBUTION, _attribution(ordered, sources))
    return ordered


def read_manifest(out: Path) -> tuple[FetchedSeries, ...]:
    """Return the series of an existing manifest; none if there is no manifest.

    Raises:
        InputError: The file is not a manifest.
    """
    path = out / MANIFEST
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["series"]
        return tuple(from_mapping(FetchedSeries, entry) for entry in listed)
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not the manifest of a download ({error}); remove it, or choose another folder",
            code="invalid_manifest",
        ) from error


def _to_fetched(out: Path, series: IndexedSeries) -> FetchedSeries:
    names = {field.name for field in dataclasses.fields(FetchedSeries)} - {"folder", "complete"}
    same = {name: getattr(series, name) for name in names}
    folder = series_folder(out, series).relative_to(out).as_posix()
    return FetchedSeries(**same, folder=folder, complete=is_complete(out, series))


def _attribution(entries: Iterable[FetchedSeries], sources: dict[str, dict[str, Source]]) -> str:
    groups: dict[tuple[str, str, str], list[FetchedSeries]] = {}
    for entry in entries:
        groups.setdefault((entry.collection_id, entry.doi.lower(), entry.licence), []).append(entry)
    lines = ["# Attribution", ""]
    lines += [f"Fetched from the {ARCHIVE} (https://imaging.datacommons.cancer.gov). When you publish results from",
              "these images, cite their authors as stated here and comply with the licence.", ""]  # fmt: skip
    for (collection, doi, licence), group in sorted(groups.items()):
        source = sources.get(collection, {}).get(doi) or Source(doi, "", "", "", "")
        patients = len({entry.patient_id for entry in group})
        name = " ".join(filter(None, (licence, source.licence and f"({source.licence})", source.licence_url)))
        lines += [
            f"## {source.title or collection}",
            "",
            source.citation or f"Cite it as https://doi.org/{doi} says.",
            "",
        ]
        lines += [f"- collection {collection}: {patients} patients, {len(group)} series", f"- licence: {name}"]
        lines += [
            f"- source: https://doi.org/{doi}",
            "- changed: nothing; only some series were chosen, see download.json",
            "",
        ]
    return "\n".join(lines)


def _safe(part: str) -> str:
    """Return a folder name without path separators that is valid on every file system."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", part).lstrip(".") or "_"
