"""Which CT a person should look at, or bring a PET for, next."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from ct2pet_app.datastore.studies import FINAL, StudiesDatastore
from ct2pet_app.errors import RequestError
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.scoring.score_store import expected_error_of
from lib.errors import CheckpointError, StudiesError

DEFAULT = "random"  # MONAI Label's, where a request names none


@dataclass(frozen=True)
class Pick:
    """A chosen image, why it was chosen, and what else a client may want to know of that."""

    image: str
    why: str
    more: Mapping[str, Any] = field(default_factory=dict)


Choose = Callable[[Sequence[str], StudiesDatastore, Mapping[str, Any]], Pick]


class PickUnlabeled(Strategy):
    """Picks among the CTs that have no label of a tag, by default no real PET."""

    def __init__(self, choose: Choose, description: str) -> None:
        super().__init__(description)
        self._choose = choose

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the image's id and why it was picked; None where every CT has its label.

        Raises:
            RequestError: A word that is not understood.
        """
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("strategies need the datastore of a folder of studies or of a PACS")
        tag = request.get("label_tag")
        if tag is not None and not isinstance(tag, str):
            raise RequestError('label_tag: expected a word such as "synthetic"')
        images = sorted(datastore.get_unlabeled_images(tag))
        if not images:
            return None
        pick = self._choose(images, datastore, request)
        return {"id": pick.image, "why": pick.why, **pick.more}


def strategies(models: ModelRegistry) -> dict[str, Strategy]:
    """Return the strategies by name."""
    return {
        "first": PickUnlabeled(first, "the first CT without a PET, by series UID"),
        "random": PickUnlabeled(any_of, "any CT without a PET"),
        "newest": PickUnlabeled(newest, "the CT without a PET whose study was begun last, as its headers say"),
        "uncertain": PickUnlabeled(
            partial(most_uncertain, models),
            "the CT without a PET whose synthetic PET is expected to be off most; the newest while that is not known "
            "(POST /scoring/uncertainty, or a batch, finds out)",
        ),
    }


def first(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]) -> Pick:
    """Return the first of the images, which are in order."""
    return Pick(images[0], f"the first by UID of {_of(images, request)}")


def any_of(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]) -> Pick:
    """Return one of the images by chance."""
    return Pick(random.choice(images), f"by chance, of {_of(images, request)}")


def newest(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]) -> Pick:
    """Return the CT whose study, then series, was begun last; one that no header dates comes after all that are dated.

    Of those, an upload that came last goes first.
    """
    listed = datastore.listing().images

    def age(image: str) -> tuple[tuple[str, ...], float, str]:
        """Return what is larger for a newer CT."""
        found = listed.get(image)
        if found is not None:
            return found.moments, 0.0, image
        return (), Path(datastore.get_image_uri(image)).stat().st_mtime, image

    moments, _, image = max(map(age, images))
    if not moments:
        return Pick(image, f"no header dates any of {_of(images, request)}; an upload that came last goes first")
    begun = moments[0]
    day = f"{begun[:4]}-{begun[4:6]}-{begun[6:8]}"
    clock = f" {begun[8:10]}:{begun[10:12]}" if begun[8:] != "000000" else ""  # the header tells the day alone
    return Pick(image, f"the newest of {_of(images, request)}: begun {day}{clock}", {"begun": begun})


def most_uncertain(
    models: ModelRegistry, images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]
) -> Pick:
    """Return the CT of which a served model expects the largest error; the newest one where nothing is known yet.

    The model is the one that `model` of the request names, else the first that can tell. Nothing is synthesised for
    this: what was asked before is remembered, by CT and weights.

    Raises:
        NotFoundError: No model of that name.
    """
    telling = _telling_model(models, request)
    if telling is None:
        return _not_known(images, datastore, request, "no model served here tells what error to expect")
    name, checksum = telling
    found = {image: expected_error_of(datastore, image, name) for image in images}
    known = {image: of.mean_suv for image, of in found.items() if of is not None and of.checksum == checksum}
    if not known:
        return _not_known(images, datastore, request, f"what error {name} expects is known of none of them yet")
    image = max(known, key=lambda one: (known[one], one))
    why = f"{name} expects the largest error of it, {known[image]:.3f} SUV on average in the body, of {len(known)}"
    unknown = len(images) - len(known)
    if unknown:
        why += f"; of {unknown} more it is not known yet: POST /scoring/uncertainty finds out"
    return Pick(
        image, why, {"model": name, "checksum": checksum, "expected_error_suv": known[image], "unknown": unknown}
    )


def _not_known(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any], why: str) -> Pick:
    instead = newest(images, datastore, request)
    way_out = "POST /scoring/uncertainty finds out"
    return Pick(instead.image, f"{why} ({way_out}), so {instead.why}", {**instead.more, "unknown": len(images)})


def _telling_model(models: ModelRegistry, request: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return name and checksum of the model to ask, or None where none tells what error to expect."""
    asked = request.get("model")
    for name in (models.known(str(asked)),) if asked else models.names:
        with contextlib.suppress(CheckpointError):  # a damaged model tells nothing; /info/ says that it is damaged
            published = models.published(name)
            if published is not None and published.card.calibration is not None:
                return name, published.checksum
    return None


def _of(images: Sequence[str], request: Mapping[str, Any]) -> str:
    tag = request.get("label_tag") or FINAL
    what = "PET" if tag == FINAL else f"label {tag!r}"
    return f"{len(images)} CTs without a {what}" if len(images) != 1 else f"one CT without a {what}"
