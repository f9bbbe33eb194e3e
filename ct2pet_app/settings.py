"""The server's settings: ``--conf KEY VALUE`` of the command line, checked once at start."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from ct2pet_app.errors import SettingsError
from lib.learning.recipe import DEFAULT_RECIPE, Recipe, load_recipe
from lib.networks.cascade import MAX_STAGES
from lib.networks.precision import Precision
from lib.pairing.split import Split

STAGES = {"unet": 1, **{f"cascade{stages}": stages for stages in range(2, MAX_STAGES + 1)}}
DEFAULT_MODEL = "cascade3"
MAX_UPLOAD_MB = 2048  # a whole-body CT of 1,500 slices of 512 x 512 is 800 MB as 16-bit numbers
TOKEN_HOURS = 12  # a working day: nobody logs in twice, nothing is left open overnight
MEMORY_GB = 1.2  # of arrays: with 0.3 GB for all else, the server stays 1.5 GB above its models
CACHE_GB = 20  # some hundred whole-body CT and PET series of a PACS
STOCK_KEYS = frozenset({"server_mode"})  # read by MONAI Label itself
MIN_MEMORY_GB = 0.1  # a CT of 60 slices of 512 x 512
NUMBER = re.compile(r"[0-9]{1,6}([.][0-9]{1,6})?")
DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")
KEYS = {
    "models": f"comma-separated, of {', '.join(STAGES)}, or all (default {DEFAULT_MODEL})",
    "recipe": f"name or .toml file (default {DEFAULT_RECIPE})",
    "width": "base channels of the network (default: the recipe's)",
    "set": "further recipe settings, key=value;key=value",
    "device": "auto, cpu, cuda, cuda:1 (default auto)",
    "precision": f"one of {', '.join(get_args(Precision))} (default auto)",
    "models_folder": "where models, uploads and caches lie (default: model, inside the app)",
    "max_upload_mb": f"largest request taken, in MB (default {MAX_UPLOAD_MB})",
    "memory_gb": f"most memory that requests may hold at once in arrays, in GB (default {MEMORY_GB})",
    "cache_gb": f"most that is kept of a PACS's series, in GB (default {CACHE_GB})",
    "origins": "comma-separated origins of web pages that may ask, such as https://viewer.example (default none)",
    "tracking_uris": "comma-separated addresses of MLflow servers that a training may name (default none)",
    "users": "file of the accounts that may ask, made by main.py users (default none: everybody may)",
    "token_hours": f"how long a login lasts, in hours (default {TOKEN_HOURS})",
}


@dataclass(frozen=True)
class AppSettings:
    """What ``--conf`` decides.

    Attributes:
        models: Names, in the order given; each one says how many stages.
        recipe: Shipped name or .toml file.
        recipe_settings: `key=value` on top of the recipe.
        device, precision: Of inference and, unless a request says otherwise, of training.
        models_folder: All that the server writes lies here.
        max_upload_bytes: Of one request's body.
        memory_bytes: Of the arrays that requests and caches hold at once.
        cache_bytes: Of a PACS's series that are kept on this machine.
        origins: Of web pages that may ask, besides the server's own.
        tracking_uris: MLflow servers that a training may name, besides MONAI_LABEL_TRACKING_URI.
        users: File of the accounts that may ask; None for no accounts.
        token_hours: How long a login lasts.
    """

    models: tuple[str, ...]
    recipe: str
    recipe_settings: tuple[str, ...]
    device: str
    precision: Precision
    models_folder: Path
    max_upload_bytes: int
    memory_bytes: int
    cache_bytes: int
    origins: tuple[str, ...]
    tracking_uris: tuple[str, ...]
    users: Path | None
    token_hours: int

    @classmethod
    def from_conf(cls, conf: Mapping[str, str], *, app_folder: Path) -> AppSettings:
        """Return the settings.

        Raises:
            SettingsError: An unknown key, model or number; the message names the right ones.
            RecipeError: No such recipe, or a recipe setting it cannot have.
        """
        for key in conf:
            if key not in KEYS and key not in STOCK_KEYS:
                raise SettingsError(f"--conf {key}: no such setting; {did_you_mean(key, KEYS)}")
        recipe_settings = tuple(split_settings(conf.get("set", "")))
        if "width" in conf:
            recipe_settings += (f"network.base_channels={_whole_number(conf, 'width')}",)
        settings = cls(
            models=_models(conf.get("models", DEFAULT_MODEL)),
            recipe=conf.get("recipe", DEFAULT_RECIPE),
            recipe_settings=recipe_settings,
            device=_device(conf.get("device", "auto")),
            precision=_precision(conf.get("precision", "auto")),
            models_folder=Path(conf.get("models_folder", app_folder / "model")).expanduser().resolve(),
            max_upload_bytes=_whole_number(conf, "max_upload_mb", MAX_UPLOAD_MB) * 10**6,
            memory_bytes=_memory_bytes(conf),
            cache_bytes=_whole_number(conf, "cache_gb", CACHE_GB) * 10**9,
            origins=_web_addresses(conf, "origins"),
            tracking_uris=_web_addresses(conf, "tracking_uris"),
            users=_users(conf),
            token_hours=_whole_number(conf, "token_hours", TOKEN_HOURS),
        )
        for model in settings.models:
            settings.recipe_of(model)  # a wrong word is answered at start, not at the first training
        return settings

    @property
    def split(self) -> Split:
        """Whose hash decides on which side of the split a new patient is, for good: the server's own recipe's."""
        return self.recipe_of(self.models[0]).split

    def recipe_of(self, model: str, *, recipe: str | None = None, extra: Iterable[str] = ()) -> Recipe:
        """Return the recipe under which a model is trained.

        Args:
            model: One of `STAGES`; it decides the stages, whatever the recipe says.
            recipe: Another recipe than the server's.
            extra: `key=value` on top of the server's.

        Raises:
            RecipeError: A setting it cannot have.
        """
        loaded = load_recipe(recipe or self.recipe, settings=(*self.recipe_settings, *extra))
        return dataclasses.replace(loaded, network=dataclasses.replace(loaded.network, stages=STAGES[model]))


def split_settings(text: str) -> list[str]:
    """Return the `key=value` items of ``a=1;b=2``."""
    return [item.strip() for item in text.split(";") if item.strip()]


def did_you_mean(word: str, known: Mapping[str, str] | Iterable[str]) -> str:
    """Return the end of a sentence that leads from a wrong word to the right ones."""
    close = difflib.get_close_matches(word, list(known), n=1)
    listed = ", ".join(known)
    return f"did you mean {close[0]}? (known are {listed})" if close else f"known are {listed}"


def _models(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == ("all",):
        return tuple(STAGES)
    for name in names:
        if name not in STAGES:
            raise SettingsError(f"--conf models {name}: no such model; {did_you_mean(name, [*STAGES, 'all'])}")
    if not names:
        raise SettingsError(f"--conf models: names no model; give {KEYS['models']}")
    return names


def _web_addresses(conf: Mapping[str, str], key: str) -> tuple[str, ...]:
    addresses = tuple(word.strip().rstrip("/") for word in conf.get(key, "").split(",") if word.strip())
    for address in addresses:
        if not address.startswith(("http://", "https://")):
            raise SettingsError(f"--conf {key} {address}: expected {KEYS[key]}")
    return addresses


def _users(conf: Mapping[str, str]) -> Path | None:
    if "users" not in conf:
        return None
    if not conf["users"].strip():  # an unset variable of a start script must not open the server to everybody
        raise SettingsError(f"--conf users: names no file; expected a {KEYS['users']}")
    return Path(conf["users"]).expanduser().resolve()


def _device(word: str) -> str:
    """Return the word; whether this machine has the device shows when it is used, which must not be at start."""
    if not DEVICE.fullmatch(word):
        raise SettingsError(f"--conf device {word}: expected one of {KEYS['device']}")
    return word


def _precision(word: str) -> Precision:
    if word not in get_args(Precision):
        raise SettingsError(f"--conf precision {word}: expected {KEYS['precision']}")
    return cast(Precision, word)


def _memory_bytes(conf: Mapping[str, str]) -> int:
    text = str(conf.get("memory_gb", MEMORY_GB))
    if not NUMBER.fullmatch(text) or not float(text) >= MIN_MEMORY_GB:
        raise SettingsError(
            f"--conf memory_gb {text[:40]}: expected a number, at least {MIN_MEMORY_GB} ({KEYS['memory_gb']})"
        )
    return int(float(text) * 10**9)


def _whole_number(conf: Mapping[str, str], key: str, default: int = 0) -> int:
    text = str(conf.get(key, default))
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"--conf {key} {text}: expected a whole number above 0 ({KEYS[key]})")
    return int(text)
