"""Batch inference: one model over many CTs; each result is saved as a label. Runs in a task process.

Finished images are kept: the same batch, requested again after it was stopped or killed, continues with the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from ct2pet_app.batch.request import BatchRequest
from ct2pet_app.datastore.ct_source import CTSource
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.model_registry.model_cache import PublishedModel
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.model_registry.versions import not_trained
from ct2pet_app.scoring.score_store import ExpectedError, keep_expected_error
from ct2pet_app.server.tasks.progress import CaseReport, report_file
from lib.errors import StudiesError
from lib.files import fingerprint, same_fingerprint
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from lib.synthesis.uncertainty import card_calibration, mean_expected_error_suv

logger = logging.getLogger(__name__)

SYNTHESIS = "drawn"  # key of a label's info: the SynthesisRecord of a batch
Infer = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class SynthesisRecord:
    """How a label was synthesised; the same record means the same label.

    Attributes:
        model, checksum: The weights.
        slices: As requested.
        files: Fingerprint of the CT's files.
        stored: Whether the DICOM series was stored in the CT's study, too.
    """

    model: str
    checksum: str
    slices: str
    files: str
    stored: bool


class BatchSynthesis(BatchInferTask):
    """Processes one image at a time: the network uses all cores, and memory is needed once."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    def __call__(self, request: Mapping[str, Any], datastore: Datastore, infer: Infer) -> dict[str, Any]:
        """Synthesise the PETs that are missing and return the result, or the error, of each image.

        Raises:
            InputError: An invalid parameter; the model is not trained; or all images failed.
        """
        parsed, published = self.read_request(request)
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("a batch needs the datastore of a folder of studies or of a PACS")
        images = self.get_images({"images": parsed.images}, datastore)
        remaining = [image for image in images if not self._is_done(parsed, published, image, datastore)]
        to_do = remaining[: parsed.max_images or None]
        report = CaseReport(
            f"batch of {parsed.model}",
            to_do=len(to_do),
            already=len(images) - len(remaining),
            file=report_file(self._models.folder, request),
        )
        results: dict[str, Any] = {}
        for image in to_do:
            with report.case(image):
                results[image] = self._synthesize(parsed, image, datastore, infer)
        results |= {image: {"error": reason} for image, reason in report.reasons.items()}
        succeeded = len(to_do) - len(report.reasons)
        report.finish({"drawn": succeeded, "label_tag": parsed.tag, "left": len(remaining) - len(to_do)})
        report.require_one_success()
        return results

    def read_request(self, request: Mapping[str, Any]) -> tuple[BatchRequest, PublishedModel]:
        """Return the validated request and the published model.

        Raises:
            InputError: An invalid parameter, an unknown model, or one that is not trained.
        """
        parsed = BatchRequest.from_mapping(request)
        published = self._models.published(self._models.known(parsed.model))
        if published is None:
            raise not_trained(parsed.model, self._models.versions(parsed.model))
        return parsed, published

    def get_images(self, request: Mapping[str, Any], datastore: Datastore) -> list[str]:
        """Return the images: `all`, those without a real PET (`unlabeled`), with one (`labeled`), or the listed."""
        images = request["images"]
        if isinstance(images, tuple):
            return list(images)
        listed = {
            "all": datastore.list_images,
            "unlabeled": datastore.get_unlabeled_images,
            "labeled": datastore.get_labeled_images,
        }
        return sorted(listed[images]())

    def _synthesize(
        self, parsed: BatchRequest, image: str, datastore: StudiesDatastore, infer: Infer
    ) -> dict[str, Any]:
        result = infer({**parsed.infer_params, "image": image}, datastore)
        path, metadata = Path(result["file"]), result["params"]
        source = datastore.cts.image(image)
        try:
            record = _record(parsed, metadata["model"]["checksum"], source)
            datastore.labels.record(image, parsed.tag, {SYNTHESIS: asdict(record)})
            if source.pet is None and not parsed.slices:
                self._save_expected_error(record, path, source, datastore)
        finally:
            path.unlink(missing_ok=True)
        return {
            "label": parsed.tag,
            "seconds": metadata["latencies"]["total"],
            "series": metadata["series"],
            "familiarity": metadata["familiarity"]["level"],
            "warnings": metadata["warnings"],
        }

    def _save_expected_error(
        self, record: SynthesisRecord, path: Path, source: CTSource, datastore: StudiesDatastore
    ) -> None:
        """Save the expected error of this CT: computing it later would need another synthesis."""
        card = self._models.synthesizer(record.model).card
        if card.calibration is None:
            return
        pet = read_volume_file(path, unit=Unit.SUV_BW)
        mean_suv = mean_expected_error_suv(pet, source.read(), card_calibration(card))
        expected = ExpectedError(record.model, record.checksum, mean_suv, record.files)
        keep_expected_error(datastore, source.image_id or "", expected)

    def _is_done(
        self, parsed: BatchRequest, published: PublishedModel, image: str, datastore: StudiesDatastore
    ) -> bool:
        if parsed.tag not in datastore.get_labels_by_image_id(image) or image not in datastore.list_images():
            return False
        before = datastore.get_label_info(image, parsed.tag).get(SYNTHESIS)
        now = asdict(_record(parsed, published.checksum, datastore.cts.image(image)))
        if not isinstance(before, Mapping) or set(before) != set(now):
            return False
        same = all(before[key] == now[key] for key in ("model", "checksum", "slices"))
        return same and same_fingerprint(str(before["files"]), now["files"]) and (before["stored"] or not now["stored"])


def _record(parsed: BatchRequest, checksum: str, source: CTSource) -> SynthesisRecord:
    return SynthesisRecord(parsed.model, checksum, parsed.slices, fingerprint(source.files), parsed.store)
