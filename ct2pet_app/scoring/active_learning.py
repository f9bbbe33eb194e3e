"""Active learning: select the CT to review, or to acquire a PET for, next."""

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

DEFAULT = "random"  # MONAI Label's default


@dataclass(frozen=True)
class Pick:
    """A selected image, the reason, and further details for the client."""

    image: str
    why: str
    details: Mapping[str, Any] = field(default_factory=dict)


Choose = Callable[[Sequence[str], StudiesDatastore, Mapping[str, Any]], Pick]


class PickUnlabeled(Strategy):
    """Selects a CT without a label of a tag; by default, a CT without a real PET."""

    def __init__(self, choose: Choose, description: str) -> None:
        super().__init__(description)
        self._choose = choose

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the image's id and the reason; None if every CT has such a label.

        Raises:
            RequestError: An invalid parameter.
        """
        if not isinstance(datastore, StudiesDatastore):
            raise StudiesError("strategies need the datastore of a folder of studies or of a PACS")
        tag = request.get("label_tag")
        if tag is not None and not isinstance(tag, str):
            raise RequestError('label_tag: expected a string such as "synthetic"')
        images = sorted(datastore.get_unlabeled_images(tag))
        if not images:
            return None
        pick = self._choose(images, datastore, request)
        return {"id": pick.image, "why": pick.why, **pick.details}


def strategies(models: ModelRegistry) -> dict[str, Strategy]:
    """Return the strategies by name."""
    return {
        "first": PickUnlabeled(first, "the first CT without a PET, by series UID"),
        "random": PickUnlabeled(random_one, "a random CT without a PET"),
        "newest": PickUnlabeled(newest, "the CT without a PET with the latest study date and time"),
        "uncertain": PickUnlabeled(
            partial(most_uncertain, models),
            "the CT without a PET with the largest expected error; the newest as long as no errors are known "
            "(POST /scoring/uncertainty, or a batch, computes them)",
        ),
    }


def first(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]) -> Pick:
    """Return the first of the sorted images."""
    return Pick(images[0], f"the first by UID of {_of(images, request)}")


def random_one(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]) -> Pick:
    """Return a random image."""
    return Pick(random.choice(images), f"a random one of {_of(images, request)}")


def newest(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]) -> Pick:
    """Return the CT with the latest study, then series, date and time.

    CTs without a date in their headers come last, the latest upload first.
    """
    listed = datastore.listing().images

    def age(image: str) -> tuple[tuple[str, ...], float, str]:
        """Return a sort key that is larger for a newer CT."""
        found = listed.get(image)
        if found is not None:
            return found.moments, 0.0, image
        return (), Path(datastore.get_image_uri(image)).stat().st_mtime, image

    moments, _, image = max(map(age, images))
    if not moments:
        return Pick(image, f"no header of {_of(images, request)} has a date; the latest upload comes first")
    begun = moments[0]
    day = f"{begun[:4]}-{begun[4:6]}-{begun[6:8]}"
    clock = f" {begun[8:10]}:{begun[10:12]}" if begun[8:] != "000000" else ""  # the header has a date, but no time
    return Pick(image, f"the newest of {_of(images, request)}: begun {day}{clock}", {"begun": begun})


def most_uncertain(
    models: ModelRegistry, images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any]
) -> Pick:
    """Return the CT with the largest expected error of a served model; the newest one if no error is known yet.

    The model is the `model` of the request, or the first calibrated one. Nothing is synthesised: the expected errors
    were stored before, by CT and weights.

    Raises:
        NotFoundError: No model of that name.
    """
    calibrated = _calibrated_model(models, request)
    if calibrated is None:
        return _not_known(images, datastore, request, "no served model predicts its error")
    name, checksum = calibrated
    found = {image: expected_error_of(datastore, image, name) for image in images}
    known = {image: of.mean_suv for image, of in found.items() if of is not None and of.checksum == checksum}
    if not known:
        return _not_known(images, datastore, request, f"the expected error of {name} is not known for any of them yet")
    image = max(known, key=lambda one: (known[one], one))
    why = f"the largest expected error of {name}, {known[image]:.3f} SUV on average in the body, among {len(known)} CTs"
    unknown = len(images) - len(known)
    if unknown:
        why += f"; it is not known for {unknown} more: POST /scoring/uncertainty computes it"
    return Pick(
        image, why, {"model": name, "checksum": checksum, "expected_error_suv": known[image], "unknown": unknown}
    )


def _not_known(images: Sequence[str], datastore: StudiesDatastore, request: Mapping[str, Any], why: str) -> Pick:
    instead = newest(images, datastore, request)
    return Pick(
        instead.image,
        f"{why} (POST /scoring/uncertainty computes it), so {instead.why}",
        {**instead.details, "unknown": len(images)},
    )


def _calibrated_model(models: ModelRegistry, request: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return name and checksum of the requested, or the first, calibrated model; None if there is none."""
    requested = request.get("model")
    for name in (models.known(str(requested)),) if requested else models.names:
        with contextlib.suppress(CheckpointError):  # /info/ reports a damaged model
            published = models.published(name)
            if published is not None and published.card.calibration is not None:
                return name, published.checksum
    return None


def _of(images: Sequence[str], request: Mapping[str, Any]) -> str:
    tag = request.get("label_tag") or FINAL
    what = "PET" if tag == FINAL else f"label {tag!r}"
    return f"{len(images)} CTs without a {what}" if len(images) != 1 else f"one CT without a {what}"
