"""The index of series of the Imaging Data Commons, read offline from the package idc-index-data.

The package is optional (requirements-download.txt), hence imported on use. Its index is one Parquet file with a row for
each of about a million series; only the CT and PET rows of one collection are kept in memory.
"""

from __future__ import annotations

import difflib
import html
import importlib
import re
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from lib.errors import InputError
from lib.types import ListedSeries

__all__ = ["IndexedSeries", "Source", "index_version", "read_collection", "read_sources"]

INSTALL_COMMAND = "pip install -r requirements-download.txt"
MODALITIES = ("CT", "PT")
BATCH_ROWS = 65_536  # keeps the reader below 350 MB; the entire file takes 730 MB
# Column of the index for each field of IndexedSeries (idc_index.sql of idc-index-data 25.0.5)
COLUMNS = {
    "collection_id": "collection_id",
    "patient_id": "PatientID",
    "study_instance_uid": "StudyInstanceUID",
    "study_date": "StudyDate",
    "series_instance_uid": "SeriesInstanceUID",
    "modality": "Modality",
    "description": "SeriesDescription",
    "sop_class_uid": "SOPClassUID",
    "photometric_interpretation": "PhotometricInterpretation",
    "analysis_result_id": "analysis_result_id",
    "images": "instanceCount",
    "size_bytes": "series_size_MB",
    "licence": "license_short_name",
    "doi": "source_DOI",
    "url": "series_aws_url",
}


@dataclass(frozen=True)
class IndexedSeries(ListedSeries):
    """A CT or PT series of the archive; texts are empty if the index has none.

    Attributes:
        study_date: YYYY-MM-DD, shifted by de-identification.
        analysis_result_id: Identifier of a computed series; empty for a series of a scanner.
        images: Number of files of the series.
        size_bytes: Size of all files together.
        url: URL for the S3 client: s3://bucket/uuid/*.
    """

    collection_id: str
    sop_class_uid: str
    photometric_interpretation: str
    analysis_result_id: str
    images: int
    size_bytes: int
    licence: str
    doi: str
    url: str


@dataclass(frozen=True)
class Source:
    """The source of series, with the citation requested by its authors."""

    doi: str
    title: str
    citation: str
    licence: str
    licence_url: str


def index_version() -> str:
    """Return the version of the installed index.

    Raises:
        InputError: The extra is not installed.
    """
    return str(_extra("idc_index_data").__version__)


def read_collection(collection_id: str) -> tuple[IndexedSeries, ...]:
    """Return the CT and PT series of a collection, sorted by patient, study and series UID.

    Raises:
        InputError: The extra is not installed, or no collection of this name has CT or PT.
    """
    found: list[IndexedSeries] = []
    names: set[str] = set()
    compute = _extra("pyarrow.compute")
    with _extra("pyarrow.parquet").ParquetFile(_extra("idc_index_data").IDC_INDEX_PARQUET_FILEPATH) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(COLUMNS.values())):
            images = batch.filter(compute.is_in(batch["Modality"], _extra("pyarrow").array(MODALITIES)))
            names.update(images["collection_id"].unique().to_pylist())
            rows = images.filter(compute.equal(images["collection_id"], collection_id)).to_pylist()
            found.extend(_to_series(row) for row in rows)
    if not found:
        similar = difflib.get_close_matches(collection_id, names, n=3, cutoff=0.5)
        raise InputError(
            f"collection {collection_id!r}: the index {index_version()} lists no CT or PET under this name"
            + (f"; similar names: {', '.join(similar)}" if similar else "")
        )
    return tuple(sorted(found, key=attrgetter("patient_id", "study_instance_uid", "series_instance_uid")))


def read_sources(collection_id: str) -> dict[str, Source]:
    """Return the sources of a collection by lower-case DOI; empty if the index has none."""
    entry = _extra("idc_index_data").INDEX_METADATA.get("collections_index", {})
    if entry.get("parquet_filepath") is None:
        return {}
    table = _extra("pyarrow.parquet").read_table(entry["parquet_filepath"], columns=["collection_id", "sources"])
    listed = (row["sources"] or () for row in table.to_pylist() if row["collection_id"] == collection_id)
    sources = [_to_source(source) for sources in listed for source in sources if source["source_doi"]]
    return {source.doi: source for source in sources}


def _to_series(row: dict[str, Any]) -> IndexedSeries:
    values = {field: row[column] for field, column in COLUMNS.items()}
    texts = {field: value or "" for field, value in values.items() if field not in ("images", "size_bytes")}
    # the index has bytes divided by a million, without loss of precision
    return IndexedSeries(**texts, images=int(values["images"]), size_bytes=round(values["size_bytes"] * 1e6))


def _to_source(row: dict[str, Any]) -> Source:
    licence = row.get("license") or {}
    return Source(
        doi=row["source_doi"].lower(),
        title=row["source_title"] or "",
        citation=_plain(row.get("citation") or ""),
        licence=licence.get("license_long_name") or "",
        licence_url=licence.get("license_url") or "",
    )


def _plain(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"download needs the package {module.split('.')[0]}, which is not installed: {INSTALL_COMMAND}"
        ) from error
