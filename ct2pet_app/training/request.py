"""What a client may set about a training, out of the loose JSON it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from monailabel.config import settings as monailabel_settings

from ct2pet_app.errors import RequestError
from ct2pet_app.server.json_values import require_plain
from ct2pet_app.server.tasks.progress import REPORT_KEY
from ct2pet_app.settings import DEVICE, KEYS, AppSettings, did_you_mean, split_settings
from lib.learning.recipe import Recipe, shipped_recipes
from lib.learning.tracking.options import Tracking, parse_tracking

PublishRule = Literal["if_not_worse", "always"]
RECIPE_KEYS = {  # MONAI Label's words, which the stock Slicer module shows, and the recipe's
    "max_epochs": "schedule.epochs",
    "train_batch_size": "batches.size",
    "learning_rate": "optimiser.learning_rate",
}
TRACKING_KEYS = ("tracking", "tracking_uri", "tracking_experiment_name", "tracking_run_name")  # MONAI Label's words
KNOWN = (*RECIPE_KEYS, "recipe", "set", "resume", "pretrained", "publish", "device", *TRACKING_KEYS)
# what stock clients and MONAI Label itself add, and what has no meaning here
WITHOUT_MEANING = frozenset(
    {"model", "client_id", "name", "dataset", "val_split", "val_batch_size", "val_interval", "multi_gpu", "gpus",
     "local_rank", "bundle_path", "early_stop_patience", REPORT_KEY}
)  # fmt: skip
MAX_NAME = 200  # characters of an experiment's, a run's or a recipe's name
MAX_WORKERS = 64  # processes that read slices


@dataclass(frozen=True)
class TrainRequest:
    """A training as asked for.

    Attributes:
        recipe: The recipe with all that was set.
        resume: Go on with an unfinished run of the same recipe, if there is one.
        pretrained: Start from the weights that are served, if their network is the recipe's.
        publish: `always`, or only `if_not_worse` than what is served, and better than trivial predictors.
        device: Where to train.
        tracking: Where the run is mirrored to; None for nowhere but its own folder.
        settings: What was set, by its key, for the process that trains; nothing else of the request reaches it.
    """

    recipe: Recipe
    resume: bool
    pretrained: bool
    publish: PublishRule
    device: str
    tracking: Tracking | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, model: str, settings: AppSettings) -> TrainRequest:
        """Return the training that `params` of a request ask for.

        Raises:
            RequestError: An unknown key or a value that is not understood; the message names the right ones.
            RecipeError: A recipe setting that cannot be.
            InputError: MLflow is asked for and not installed.
        """
        require_plain(params)
        for key in params:
            if key not in KNOWN and key not in WITHOUT_MEANING:
                raise RequestError(
                    f"unknown training setting {key[:40]!r}; {did_you_mean(key, KNOWN)}. "
                    'Any key of a recipe can be given as {"set": "schedule.patience=5;optimiser.kind=adam"}'
                )
        if params.get("model", model) != model:
            raise RequestError(f"model: this address trains {model}; name the other one in the address")
        given = {
            key: _scalar(key, params[key]) for key in KNOWN if params.get(key) not in (None, "", []) and key != "set"
        }
        recipe = given.get("recipe")
        if recipe is not None and recipe != settings.recipe and recipe not in shipped_recipes():
            raise RequestError(f"recipe {str(recipe)[:60]!r}: {did_you_mean(str(recipe), shipped_recipes())}")
        publish = given.get("publish", "if_not_worse")
        if publish not in get_args(PublishRule):
            raise RequestError(f"publish {str(publish)[:40]!r}: expected one of {', '.join(get_args(PublishRule))}")
        extra = [f"{RECIPE_KEYS[key]}={given[key]}" for key in RECIPE_KEYS if key in given]
        more = _settings(params.get("set"))
        return cls(
            recipe=_checked_recipe(settings.recipe_of(model, recipe=recipe, extra=[*extra, *more])),
            resume=_flag(given, "resume", default=True),
            pretrained=_flag(given, "pretrained", default=True),
            publish=cast(PublishRule, publish),
            device=_device(given, settings),
            tracking=_tracking(given, model, settings),
            settings={**given, "set": more} if more else given,
        )


def shown_settings(settings: AppSettings, model: str) -> dict[str, Any]:
    """Return what a client is shown to set, with the defaults; a list of strings is a choice, its first the default."""
    recipe = settings.recipe_of(model)
    others = [name for name in shipped_recipes() if name != settings.recipe]
    return {
        "max_epochs": recipe.schedule.epochs,
        "train_batch_size": recipe.batches.size,
        "learning_rate": recipe.optimiser.learning_rate,
        "recipe": [settings.recipe, *others],
        "set": "",
        "resume": True,
        "pretrained": True,
        "publish": list(get_args(PublishRule)),
        "tracking": ["mlflow", "None"] if _is_tracked_by_default() else ["None", "mlflow"],
        "tracking_uri": "",
        "tracking_experiment_name": "",
    }


def _checked_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe that costs this machine no more than it can give, and whose name can be shown."""
    if recipe.batches.workers > MAX_WORKERS:
        raise RequestError(f"batches.workers: expected at most {MAX_WORKERS}, found {recipe.batches.workers}")
    if len(recipe.name) > MAX_NAME or not recipe.name.isprintable():
        raise RequestError(f"name: expected at most {MAX_NAME} printable characters")
    return recipe


def _tracking(given: Mapping[str, Any], model: str, settings: AppSettings) -> Tracking | None:
    """Return the tracking asked for. A client cannot make this machine connect to an address of its choice."""
    own = str(monailabel_settings.MONAI_LABEL_TRACKING_URI)
    uri = str(given.get("tracking_uri", ""))
    allowed = {address.rstrip("/") for address in (own, *settings.tracking_uris) if address}
    if uri and uri.rstrip("/") not in allowed:
        raise RequestError(
            "tracking_uri: expected an address that the server's owner allows (--conf tracking_uris, or "
            "MONAI_LABEL_TRACKING_URI); left out, it is MONAI_LABEL_TRACKING_URI, or the run's own folder",
            code="tracking_uri_not_allowed",
        )
    for key in ("tracking_experiment_name", "tracking_run_name"):
        name = str(given.get(key, ""))
        if len(name) > MAX_NAME or not name.isprintable():
            raise RequestError(f"{key}: expected at most {MAX_NAME} printable characters")
    return parse_tracking(
        str(given.get("tracking", "mlflow" if _is_tracked_by_default() else "None")),
        uri=uri or own,
        experiment=str(given.get("tracking_experiment_name", model)),
        run_name=str(given.get("tracking_run_name", "")),
    )


def _is_tracked_by_default() -> bool:
    """Return whether whoever started the server named a place to track in; MONAI Label itself tracks always."""
    return bool(monailabel_settings.MONAI_LABEL_TRACKING_ENABLED and monailabel_settings.MONAI_LABEL_TRACKING_URI)


def _device(given: Mapping[str, Any], settings: AppSettings) -> str:
    word = str(given.get("device", "cuda"))
    if word == "cuda":  # the stock module asks for it wherever it is; what this machine has decides
        return settings.device
    if not DEVICE.fullmatch(word):
        raise RequestError(f"device {word[:40]!r}: expected one of {KEYS['device']}")
    return word


def _settings(value: Any) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [setting for item in value for setting in split_settings(item)]
    if value is not None and not isinstance(value, str):
        raise RequestError('set: expected "key=value;key=value", or a list of "key=value"')
    return split_settings(value or "")


def _scalar(key: str, value: Any) -> str | int | float | bool:
    """Return a value, or the first of several: clients that show no choice send the whole list back."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, str | int | float | bool):
        raise RequestError(f"{key}: expected a text, a number, true or false")
    return first


def _flag(given: Mapping[str, Any], key: str, *, default: bool) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False}
    flag = words.get(str(given.get(key, default)).lower())
    if flag is None:
        raise RequestError(f"{key} {given[key]!r:.60}: expected true or false")
    return flag
