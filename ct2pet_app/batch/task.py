"""One model over many CTs, each result kept as a label. Runs in the child process MONAI Label starts.

What is done stays done: a batch that was stopped or killed, asked for again, goes on with what is left.
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

DRAWN = "drawn"  # key of a label's info: how a batch drew it
Infer = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """How a label was drawn; the same again would give the same label.

    Attributes:
        model, checksum: The weights.
        slices: As asked for.
        files: Mark of the CT's files.
        stored: Whether the DICOM series was put by its CT, too.
    """

    model: str
    checksum: str
    slices: str
    files: str
    stored: bool


class BatchSynthesis(BatchInferTask):
    """One image after the other: the network uses all of the machine by itself, and memory is needed once."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    def __call__(self, request: Mapping[str, Any], datastore: Datastore, infer: Infer) -> dict[str, Any]:
        """Return what became of each image that was not drawn before; one that fails has its reason, the rest goes on.

        Raises:
            InputError: A word that is not understood; the model is not trained; or every image failed.
        """
        asked, published = self.read_request(request)
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("a batch needs the datastore of a folder of studies or of a PACS")
        images = self.get_images({"images": asked.images}, datastore)
        left = [image for image in images if not self._is_drawn(asked, published, image, datastore)]
        to_do = left[: asked.max_images or None]
        report = CaseReport(
            f"batch of {asked.model}",
            to_do=len(to_do),
            already=len(images) - len(left),
            file=report_file(self._models.folder, request),
        )
        results: dict[str, Any] = {}
        for image in to_do:
            with report.case(image):
                results[image] = self._draw(asked, image, datastore, infer)
        results |= {image: {"error": reason} for image, reason in report.reasons.items()}
        drawn = len(to_do) - len(report.reasons)
        report.finish({"drawn": drawn, "label_tag": asked.tag, "left": len(left) - len(to_do)})
        report.require_one_success()
        return results

    def read_request(self, request: Mapping[str, Any]) -> tuple[BatchRequest, PublishedModel]:
        """Return the batch that is asked for, and its model.

        Raises:
            InputError: A word that is not understood, no such model, or one that is not trained.
        """
        asked = BatchRequest.from_mapping(request)
        published = self._models.published(self._models.known(asked.model))
        if published is None:
            raise not_trained(asked.model, self._models.versions(asked.model))
        return asked, published

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

    def _draw(self, asked: BatchRequest, image: str, datastore: StudiesDatastore, infer: Infer) -> dict[str, Any]:
        result = infer({**asked.infer_params, "image": image}, datastore)
        path, told = Path(result["file"]), result["params"]
        source = datastore.cts.image(image)
        try:
            drawn = _drawn(asked, told["model"]["checksum"], source)
            datastore.labels.record(image, asked.tag, {DRAWN: asdict(drawn)})
            if source.pet is None and not asked.slices:
                self._expect(drawn, path, source, datastore)
        finally:
            path.unlink(missing_ok=True)
        return {"label": asked.tag, "seconds": told["latencies"]["total"], "series": told["series"]}

    def _expect(self, drawn: Drawn, path: Path, source: CTSource, datastore: StudiesDatastore) -> None:
        """Keep what error the model expects of this CT, which takes a moment now and a synthesis later."""
        card = self._models.synthesizer(drawn.model).card
        if card.calibration is None:
            return
        pet = read_volume_file(path, unit=Unit.SUV_BW)
        mean_suv = mean_expected_error_suv(pet, source.read(), card_calibration(card))
        expected = ExpectedError(drawn.model, drawn.checksum, mean_suv, drawn.files)
        keep_expected_error(datastore, source.image_id or "", expected)

    def _is_drawn(
        self, asked: BatchRequest, published: PublishedModel, image: str, datastore: StudiesDatastore
    ) -> bool:
        if asked.tag not in datastore.get_labels_by_image_id(image) or image not in datastore.list_images():
            return False
        before = datastore.get_label_info(image, asked.tag).get(DRAWN)
        now = asdict(_drawn(asked, published.checksum, datastore.cts.image(image)))
        if not isinstance(before, Mapping) or set(before) != set(now):
            return False
        same = all(before[key] == now[key] for key in ("model", "checksum", "slices"))
        return same and same_fingerprint(str(before["files"]), now["files"]) and (before["stored"] or not now["stored"])


def _drawn(asked: BatchRequest, checksum: str, source: CTSource) -> Drawn:
    return Drawn(asked.model, checksum, asked.slices, fingerprint(source.files), asked.store)
