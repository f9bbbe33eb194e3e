"""Which image a person should look at next."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class PickUnlabeled(Strategy):
    """Picks among the CTs that have no label of a tag, by default no real PET."""

    def __init__(self, pick: Callable[[Sequence[str]], str], description: str) -> None:
        super().__init__(description)
        self._pick = pick

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the image's id; None where every CT has its label."""
        images = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        return {"id": self._pick(images)} if images else None


def strategies() -> dict[str, Strategy]:
    """Return the strategies by name."""
    return {
        "first": PickUnlabeled(lambda images: images[0], "the first CT without a PET, by series UID"),
        "random": PickUnlabeled(random.choice, "any CT without a PET"),
    }
