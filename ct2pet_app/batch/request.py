"""What a client may ask of a batch, out of the loose JSON it sends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ct2pet_app.datastore.labels.label_store import checked_name
from ct2pet_app.datastore.studies import FINAL
from ct2pet_app.errors import RequestError
from ct2pet_app.inference.request import InferOptions
from ct2pet_app.server.json_values import require_plain
from ct2pet_app.server.tasks.progress import REPORT_KEY
from ct2pet_app.settings import did_you_mean

COUNT = re.compile(r"[0-9]{1,6}")
WHICH = ("all", "unlabeled", "labeled")
KNOWN = ("model", "images", "label_tag", "max_batch_size", "slices", "metrics", "store")
# what stock clients and the stock server send by default: here one process draws one CT after the other
WITHOUT_MEANING = frozenset(
    {"device", "multi_gpu", "gpus", "logging", "save_label", "max_workers", "client_id", "bundle_path", REPORT_KEY}
)


@dataclass(frozen=True)
class BatchRequest:
    """A batch as asked for.

    Attributes:
        images: Which CTs: `all`, those without a real PET (`unlabeled`), with one (`labeled`), or their ids.
        tag: Of the labels that are made.
        most: Images that are drawn at most; None for all.
        slices: The slab `A:B` of each; empty for all slices.
        metrics: Compare with the real PET where there is one.
        store: Put each PET as a DICOM series by its CT, too.
    """

    model: str
    images: str | tuple[str, ...]
    tag: str
    most: int | None
    slices: str
    metrics: bool
    store: bool

    @classmethod
    def from_mapping(cls, request: Mapping[str, Any]) -> BatchRequest:
        """Return the batch of a request.

        Raises:
            RequestError: A key or value that is not understood.
        """
        require_plain({key: word.value if isinstance(word, Enum) else word for key, word in request.items()})
        for key in request:
            if key not in KNOWN and key not in WITHOUT_MEANING:
                raise RequestError(f"{str(key)[:40]!r} is no parameter of a batch; {did_you_mean(str(key), KNOWN)}")
        options = InferOptions.from_params(
            {key: request[key] for key in ("slices", "metrics", "store") if key in request}
        )
        return cls(
            model=str(request.get("model")),
            images=_images(request.get("images", "all")),
            tag=_tag(request.get("label_tag")),
            most=_most(request.get("max_batch_size")),
            slices=str(request.get("slices") or ""),
            metrics=options.metrics,
            store=options.store,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What the process that does the batch is given; nothing else of the request reaches it."""
        return {
            "model": self.model,
            "images": self.images if isinstance(self.images, str) else list(self.images),
            "label_tag": self.tag,
            "max_batch_size": self.most or 0,
            "slices": self.slices,
            "metrics": self.metrics,
            "store": self.store,
        }

    @property
    def passed_on(self) -> dict[str, Any]:
        """What each inference is asked."""
        return {
            "model": self.model,
            "slices": self.slices,
            "metrics": self.metrics,
            "store": self.store,
            "save_label": True,
            "label_tag": self.tag,
        }


def _images(word: Any) -> str | tuple[str, ...]:
    if isinstance(word, (list, tuple)) and word and all(isinstance(image, str) for image in word):
        return tuple(dict.fromkeys(word))
    which = str(word.value if isinstance(word, Enum) else word)
    if which not in WHICH:
        raise RequestError(f"images {which[:40]!r}: expected {', '.join(WHICH)}, or a list of images' ids")
    return which


def _tag(word: Any) -> str:
    tag = checked_name(str(word or InferOptions.label_tag), "label_tag")
    if tag == FINAL:
        raise RequestError("label_tag final is that of the real PETs; give another, such as synthetic")
    return tag


def _most(word: Any) -> int | None:
    if word in (None, "", 0, "0"):
        return None
    if isinstance(word, bool) or not COUNT.fullmatch(str(word)):
        raise RequestError(f"max_batch_size {str(word)[:40]!r}: expected a number of images, or 0 for all")
    return int(word)
