"""The parameters of a training, as a client sends them, and the training that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, get_args

from monailabel.config import settings as monailabel_settings
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ct2pet_app.errors import RequestError
from ct2pet_app.json_values import require_plain
from ct2pet_app.server.tasks.progress import REPORT_KEY
from ct2pet_app.settings import AppSettings, Device, split_settings
from ct2pet_app.validation import BoundaryModel, Flag, Number, PositiveNumber, did_you_mean, validated
from lib.learning.cross_validation.folds import MAX_FOLDS
from lib.learning.recipe import Recipe, shipped_recipes
from lib.learning.tracking.options import Tracking, parse_tracking

PublishRule = Literal["if_not_worse", "always"]
RECIPE_KEYS = {  # MONAI Label's key, which the stock Slicer module shows, and the recipe's
    "max_epochs": "schedule.epochs",
    "train_batch_size": "batches.size",
    "learning_rate": "optimiser.learning_rate",
}
MAX_NAME = 200  # characters of an experiment's, a run's or a recipe's name
MAX_WORKERS = 64  # processes that read slices
EMPTY: tuple[Any, ...] = (None, "", [])  # like an omitted key


def _name(text: str) -> str:
    if len(text) > MAX_NAME or not text.isprintable():
        raise ValueError(f"expected at most {MAX_NAME} printable characters")
    return text


def _recipe_settings(value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    is_texts = isinstance(items, list) and all(isinstance(item, str) for item in items)
    return [setting for item in items for setting in split_settings(item)] if is_texts else None


Name = Annotated[str, AfterValidator(_name), Field(description="a name")]


class TrainParams(BoundaryModel):
    """The parameters of a training, as a client sends them; None or empty if omitted."""

    subject = "training setting"
    hint = '. Any key of a recipe can be given as {"set": "schedule.patience=5;optimiser.kind=adam"}'
    ignored_keys: ClassVar[frozenset[str]] = frozenset(
        {"model", "client_id", "name", "dataset", "val_split", "val_batch_size", "val_interval", "multi_gpu", "gpus",
         "local_rank", "bundle_path", "early_stop_patience", REPORT_KEY}
    )  # fmt: skip
    model_config = ConfigDict(coerce_numbers_to_str=True)

    max_epochs: PositiveNumber | None = Field(None, description="a whole number above 0")
    train_batch_size: PositiveNumber | None = Field(None, description="a whole number above 0")
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(str)] | None = Field(
        None, description="a number above 0"
    )
    recipe: str = Field("", description="the name of a recipe")
    recipe_settings: Annotated[list[str], BeforeValidator(_recipe_settings)] = Field(
        [], alias="set", description='"key=value;key=value", or a list of "key=value"'
    )
    folds: Number | None = Field(None, description="0, or a whole number of folds from 2")
    resume: Flag = True
    pretrained: Flag = True
    publish: PublishRule = Field("if_not_worse", description=f"one of {', '.join(get_args(PublishRule))}")
    device: Device = "cuda"
    tracking: str = Field("", description="mlflow or none")
    tracking_uri: str = Field("", description="the URL of a tracking server")
    tracking_experiment_name: Name = ""
    tracking_run_name: Name = ""

    @model_validator(mode="before")
    @classmethod
    def _choose(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Drop empty values, and take the first item of a list: some clients send a list of choices back as it is."""
        known = cls.known_keys()
        return {
            key: value[0] if isinstance(value, list) and value and key != "set" else value
            for key, value in values.items()
            if key not in known or value not in EMPTY
        }


@dataclass(frozen=True)
class TrainRequest:
    """A training.

    Attributes:
        recipe: The recipe with the requested settings.
        folds: Of a cross-validated training on all patients, where there are enough for it; 0 trains on the training
            side of the split only.
        resume: Whether to continue an unfinished run of the same recipe, if there is one.
        pretrained: Whether to start from the served weights, if their network is the recipe's.
        publish: `always`, or only `if_not_worse` than the served model, and better than the baselines.
        device: Where to train.
        tracking: Where the run is mirrored; None for its own folder only.
        settings: The parameters that were sent, for the training process.
    """

    recipe: Recipe
    folds: int
    resume: bool
    pretrained: bool
    publish: PublishRule
    device: str
    tracking: Tracking | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, model: str, settings: AppSettings) -> TrainRequest:
        """Return the training that `params` of a request describe.

        Raises:
            RequestError: An unknown key or a wrong value; the message says what was expected.
            RecipeError: An invalid recipe setting.
            InputError: MLflow is requested and not installed.
        """
        require_plain(params)
        if params.get("model", model) != model:
            raise RequestError(f"model: this URL trains {model}; name the other model in the URL")
        sent = validated(TrainParams, params)
        name = sent.recipe or settings.recipe
        if name not in (settings.recipe, *shipped_recipes()):
            raise RequestError(f"recipe {name[:60]!r}: {did_you_mean(name, shipped_recipes())}")
        given = sent.model_dump(exclude_unset=True, by_alias=True)
        extra = [f"{RECIPE_KEYS[key]}={given[key]}" for key in RECIPE_KEYS if key in given]
        recipe = settings.recipe_of(model, recipe=name, extra=[*extra, *sent.recipe_settings])
        return cls(
            recipe=_checked_recipe(recipe),
            folds=_checked_folds(settings.folds if sent.folds is None else sent.folds),
            resume=sent.resume,
            pretrained=sent.pretrained,
            publish=sent.publish,
            # stock clients request cuda on any machine; the server's setting decides
            device=settings.device if sent.device == "cuda" else sent.device,
            tracking=_tracking(sent, model, settings),
            settings=given,
        )


def shown_settings(settings: AppSettings, model: str) -> dict[str, Any]:
    """Return the settings shown to clients, with defaults; a list of strings is a choice, its first the default."""
    recipe = settings.recipe_of(model)
    others = [name for name in shipped_recipes() if name != settings.recipe]
    return {
        "max_epochs": recipe.schedule.epochs,
        "train_batch_size": recipe.batches.size,
        "learning_rate": recipe.optimiser.learning_rate,
        "recipe": [settings.recipe, *others],
        "set": "",
        "folds": settings.folds,
        "resume": True,
        "pretrained": True,
        "publish": list(get_args(PublishRule)),
        "tracking": ["mlflow", "None"] if _is_tracked_by_default() else ["None", "mlflow"],
        "tracking_uri": "",
        "tracking_experiment_name": "",
    }


def _checked_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe; raise RequestError for too many workers or a name that cannot be displayed."""
    if recipe.batches.workers > MAX_WORKERS:
        raise RequestError(f"batches.workers: expected at most {MAX_WORKERS}, found {recipe.batches.workers}")
    if len(recipe.name) > MAX_NAME or not recipe.name.isprintable():
        raise RequestError(f"name: expected at most {MAX_NAME} printable characters")
    return recipe


def _checked_folds(folds: int) -> int:
    """Return the number of folds; raise RequestError for one that cannot be."""
    if folds == 1 or folds > MAX_FOLDS:
        raise RequestError(f"folds: expected 0 for none, or 2 to {MAX_FOLDS}, found {folds}")
    return folds


def _tracking(sent: TrainParams, model: str, settings: AppSettings) -> Tracking | None:
    """Return the requested tracking. A client cannot make this machine connect to an arbitrary URL."""
    own = str(monailabel_settings.MONAI_LABEL_TRACKING_URI)
    allowed = {uri.rstrip("/") for uri in (own, *settings.tracking_uris) if uri}
    if sent.tracking_uri and sent.tracking_uri.rstrip("/") not in allowed:
        raise RequestError(
            "tracking_uri: expected a URL that the server's owner allows (--conf tracking_uris, or "
            "MONAI_LABEL_TRACKING_URI); if omitted, it is MONAI_LABEL_TRACKING_URI, or the run's own folder",
            code="tracking_uri_not_allowed",
        )
    return parse_tracking(
        sent.tracking or ("mlflow" if _is_tracked_by_default() else "None"),
        uri=sent.tracking_uri or own,
        experiment=sent.tracking_experiment_name or model,
        run_name=sent.tracking_run_name,
    )


def _is_tracked_by_default() -> bool:
    """Return whether the server was started with a place to track in; MONAI Label itself always tracks."""
    return bool(monailabel_settings.MONAI_LABEL_TRACKING_ENABLED and monailabel_settings.MONAI_LABEL_TRACKING_URI)
