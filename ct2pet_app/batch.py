"""One model over many CTs, each result kept as a label. Runs in the child process MONAI Label starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from ct2pet_app.infer_request import InferOptions
from lib.errors import CT2PETError

logger = logging.getLogger(__name__)

PASSED_ON = ("model", "slices", "metrics", "store")


class BatchSynthesis(BatchInferTask):
    """One image after the other: the network uses all of the machine by itself, and memory is needed once."""

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what was told about each image; an image that fails has its reason, and the rest goes on."""
        options: dict[str, Any] = {key: request[key] for key in PASSED_ON if key in request}
        options |= {"save_label": True, "label_tag": str(request.get("label_tag") or InferOptions.label_tag)}
        images = sorted(self.get_images(request, datastore))[: int(request.get("max_batch_size") or 0) or None]
        results: dict[str, Any] = {}
        for number, image in enumerate(images, start=1):
            try:
                result = infer({**options, "image": image}, datastore)
                Path(result["file"]).unlink()
                results[image] = {"params": result["params"]}
            except CT2PETError as error:
                results[image] = {"error": str(error)}
                logger.error("image %s: %s", image, error)
            logger.info("%d of %d images", number, len(images))
        return results
