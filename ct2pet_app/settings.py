"""The server's settings: ``--conf KEY VALUE`` of the command line, checked once at start."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from ct2pet_app.errors import SettingsError
from ct2pet_app.validation import BoundaryModel, Number, PositiveNumber, did_you_mean, validated
from lib.learning.cross_validation.folds import DEFAULT_FOLDS, MAX_FOLDS
from lib.learning.recipe import DEFAULT_RECIPE, Recipe, load_recipe
from lib.networks.cascade import MAX_STAGES
from lib.networks.precision import Precision
from lib.networks.runtimes.names import RuntimeName
from lib.pairing.split import Split

STAGES = {"unet": 1, **{f"cascade{stages}": stages for stages in range(2, MAX_STAGES + 1)}}
DEFAULT_MODEL = "cascade3"
MAX_UPLOAD_MB = 2048  # a whole-body CT of 1,500 slices of 512 x 512 is 800 MB as 16-bit numbers
TOKEN_HOURS = 12  # a working day: one login a day, and no session stays open overnight
MEMORY_GB = 1.2  # of arrays: with 0.3 GB for all else, the server stays 1.5 GB above its models
CACHE_GB = 20  # some hundred whole-body CT and PET series of a PACS
MIN_MEMORY_GB = 0.1  # a CT of 60 slices of 512 x 512


def split_settings(text: str) -> list[str]:
    """Return the `key=value` items of ``a=1;b=2``."""
    return [item.strip() for item in text.split(";") if item.strip()]


def _models(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in (*STAGES, "all"):
            raise ValueError(f"no model {name}; {did_you_mean(name, [*STAGES, 'all'])}")
    if not names:
        raise ValueError("names no model; give them comma-separated, or all")
    return tuple(STAGES) if "all" in names else names


def _web_urls(text: str) -> tuple[str, ...] | str:
    urls = tuple(url.strip().rstrip("/") for url in text.split(",") if url.strip())
    return urls if all(url.startswith(("http://", "https://")) for url in urls) else text


def _file(text: str) -> str:
    if not text.strip():  # an unset variable of a start script must not make the server public
        raise ValueError("names no file; give one, or leave the setting out")
    return text


def _resolved(path: Path) -> Path:
    return path.expanduser().resolve()


Device = Annotated[
    str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$", description="one of auto, cpu, cuda, cuda:1, ...")
]
Resolved = Annotated[Path, AfterValidator(_resolved)]
WebUrls = Annotated[tuple[str, ...], BeforeValidator(_web_urls)]


class AppSettings(BoundaryModel):
    """What ``--conf`` decides.

    Attributes:
        models: Names, in the order given; each name implies the number of stages.
        recipe: Shipped name or .toml file.
        recipe_settings: `key=value` on top of the recipe.
        width: Base channels of the network; None for the recipe's.
        folds: Of cross-validated trainings; 0 trains on the training side of the split only.
        device, precision: Of inference and, unless a request overrides it, of training.
        runtime: Of inference.
        models_folder: All files that the server writes are here.
        max_upload_mb: Of one request's body.
        memory_gb: Of the arrays that requests and caches hold at once.
        cache_gb: Of a PACS's series that are kept on this machine.
        origins: Of web pages that may send requests, besides the server's own.
        tracking_uris: MLflow servers that a training may name, besides MONAI_LABEL_TRACKING_URI.
        users: File of the accounts; None for no accounts.
        dicom_peers: Settings of the DICOM node that runs with the server; None for no node.
        token_hours: How long a login lasts.
    """

    subject = "setting"
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"server_mode"})  # read by MONAI Label itself

    models: Annotated[tuple[str, ...], BeforeValidator(_models)] = (DEFAULT_MODEL,)
    recipe: str = DEFAULT_RECIPE
    recipe_settings: Annotated[tuple[str, ...], BeforeValidator(split_settings)] = Field((), alias="set")
    width: PositiveNumber | None = Field(None, description="a whole number above 0, of base channels of the network")
    folds: Annotated[Number, Field(le=MAX_FOLDS)] = Field(
        DEFAULT_FOLDS, description=f"0, or a whole number of folds from 2 to {MAX_FOLDS}, of cross-validated trainings"
    )
    device: Device = "auto"
    precision: Precision = Field("auto", description=f"one of {', '.join(get_args(Precision))}")
    runtime: RuntimeName = Field("auto", description=f"one of {', '.join(get_args(RuntimeName))}")
    models_folder: Resolved
    max_upload_mb: PositiveNumber = Field(MAX_UPLOAD_MB, description="a whole number of MB above 0, of one request")
    memory_gb: float = Field(
        MEMORY_GB, ge=MIN_MEMORY_GB, lt=10**6, description=f"a number of GB, at least {MIN_MEMORY_GB}, for all requests"
    )
    cache_gb: PositiveNumber = Field(CACHE_GB, description="a whole number of GB above 0, of a PACS's series")
    origins: WebUrls = Field(
        (), description="comma-separated origins of web pages that may send requests, such as https://viewer.example"
    )
    tracking_uris: WebUrls = Field((), description="comma-separated URLs of MLflow servers, such as http://host:5000")
    users: Annotated[Resolved, BeforeValidator(_file)] | None = None
    dicom_peers: Annotated[Resolved, BeforeValidator(_file)] | None = None
    token_hours: PositiveNumber = Field(TOKEN_HOURS, description="a whole number of hours above 0, that a login lasts")

    @classmethod
    def from_conf(cls, conf: Mapping[str, str], *, app_folder: Path) -> AppSettings:
        """Return the settings.

        Raises:
            SettingsError: An unknown key, model or value; the message names what was expected.
            RecipeError: No such recipe, or a recipe setting it cannot have.
        """
        values = {"models_folder": str(app_folder / "model"), **conf}
        settings = validated(cls, values, error=SettingsError, prefix="--conf ")
        for model in settings.models:
            settings.recipe_of(model)  # refused at start, not at the first training
        return settings

    @property
    def max_upload_bytes(self) -> int:
        """Largest body of one request."""
        return self.max_upload_mb * 10**6

    @property
    def memory_bytes(self) -> int:
        """Largest size of the arrays that requests and caches hold at once."""
        return int(self.memory_gb * 10**9)

    @property
    def cache_bytes(self) -> int:
        """Largest size of a PACS's series that are kept on this machine."""
        return self.cache_gb * 10**9

    @property
    def split(self) -> Split:
        """Split of the server's recipe: its hash determines the permanent side of a new patient."""
        return self.recipe_of(self.models[0]).split

    def recipe_of(self, model: str, *, recipe: str | None = None, extra: Iterable[str] = ()) -> Recipe:
        """Return the recipe under which a model is trained.

        Args:
            model: One of `STAGES`; it determines the stages, regardless of the recipe.
            recipe: Another recipe than the server's.
            extra: `key=value` on top of the server's.

        Raises:
            RecipeError: A setting it cannot have.
        """
        width = [] if self.width is None else [f"network.base_channels={self.width}"]
        loaded = load_recipe(recipe or self.recipe, settings=(*self.recipe_settings, *width, *extra))
        return dataclasses.replace(loaded, network=dataclasses.replace(loaded.network, stages=STAGES[model]))
