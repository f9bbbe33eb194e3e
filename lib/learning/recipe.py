"""A recipe: every choice of an experiment in one frozen value, read from TOML and refused where it is wrong."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lib.errors import RecipeError
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.networks.cascade import NetworkConfig
from lib.networks.precision import Precision
from lib.pairing.prepared import Preparation
from lib.pairing.quality_checks.misaligned_slices import Alignment
from lib.pairing.split import Split

RECIPES = Path(__file__).with_name("recipes")
DEFAULT_RECIPE = "quantitative"

LossKind = Literal["mse", "l1", "smooth_l1"]
LossRegion = Literal["image", "body"]
OptimiserKind = Literal["adam", "adamw"]
ScheduleKind = Literal["constant", "cosine"]


@dataclass(frozen=True)
class LossConfig:
    """What is minimised, in the unit range.

    Attributes:
        kind: `mse` (the paper's), `l1`, or `smooth_l1` (quadratic below `beta`, linear above).
        beta: Of `smooth_l1`, unit range.
        region: `image` weighs every pixel alike, background too (the paper's). `body` weighs the body 1, the rest
            `background_weight`, and pixels that the PET scanner did not measure 0.
        background_weight: See there.
        uptake_weight: A pixel of the body weighs 1 + this times its real PET, unit range: uptake is rare, and what is
            rare is drawn too low by an error that counts every pixel alike.
        supervise_stages: Every stage is compared with the real PET; otherwise only the last.
    """

    kind: LossKind = "l1"
    beta: float = 0.05
    region: LossRegion = "body"
    background_weight: float = 0.1
    uptake_weight: float = 0.0
    supervise_stages: bool = True


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam or AdamW. Under `adam`, weight_decay is L2 regularisation, as in the paper."""

    kind: OptimiserKind = "adamw"
    learning_rate: float = 0.001
    weight_decay: float = 0.01
    clip_norm: float = 1.0  # largest norm of the gradient; 0 clips nothing


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, and how the learning rate moves.

    Attributes:
        epochs: Largest number of epochs.
        kind: `constant`, or `cosine`: a linear warm-up, then half a cosine down to 1 % of the rate.
        warmup_epochs: Of `cosine`.
        patience: Epochs without a better validation metric after which training stops; 0 never stops.
        max_minutes: Wall-clock limit; 0 has none. The epoch it falls in is cut short. `cosine` follows the clock.
        record_slices: After every epoch, the loss and every image figure are recorded on so many training and so many
            test slices, for the paper's curves; 0 records none. Nothing is chosen by them.
    """

    epochs: int = 60
    kind: ScheduleKind = "cosine"
    warmup_epochs: float = 1.0
    patience: int = 15
    max_minutes: float = 0.0
    record_slices: int = 0


@dataclass(frozen=True)
class BatchConfig:
    """What enters together.

    Attributes:
        size: Slices of one batch, over all processes.
        patch: Largest rows and columns of a training slice; larger slices are cropped at random.
        flip: Mirror left and right at random.
        rotate_degrees, scale: Random in-plane rotation and zoom (0.1: 90 % to 110 %), CT and PET alike.
        ct_shift, ct_noise: Random shift and noise (standard deviation) of the CT, unit range.
        workers: Processes that read slices; 0 reads in the training process.
    """

    size: int = 8
    patch: int = 256
    flip: bool = True
    rotate_degrees: float = 0.0
    scale: float = 0.0
    ct_shift: float = 0.0
    ct_noise: float = 0.0
    workers: int = 0


@dataclass(frozen=True)
class SynthesisConfig:
    """How a trained network is asked.

    Attributes:
        flips: The PET is the mean of that of the CT and of that of its left-right mirror image: twice the work.
    """

    flips: bool = False


@dataclass(frozen=True)
class Recipe:
    """Every choice of an experiment; see `recipes/*.toml` for what each shipped one is for."""

    name: str
    grid: Grid
    windows: Windows
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    split: Split = field(default_factory=Split)
    alignment: Alignment = field(default_factory=Alignment)
    ema_decay: float = 0.0  # of averaged weights, per step; 0 keeps the last weights
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        positive = {
            "optimiser.learning_rate": self.optimiser.learning_rate,
            "schedule.epochs": self.schedule.epochs,
            "batches.size": self.batches.size,
            "batches.patch": self.batches.patch,
            "loss.beta": self.loss.beta,
        }
        not_negative = {
            "loss.background_weight": self.loss.background_weight,
            "loss.uptake_weight": self.loss.uptake_weight,
            "optimiser.weight_decay": self.optimiser.weight_decay,
            "optimiser.clip_norm": self.optimiser.clip_norm,
            "schedule.warmup_epochs": self.schedule.warmup_epochs,
            "schedule.patience": self.schedule.patience,
            "schedule.max_minutes": self.schedule.max_minutes,
            "batches.rotate_degrees": self.batches.rotate_degrees,
            "batches.ct_shift": self.batches.ct_shift,
            "batches.ct_noise": self.batches.ct_noise,
            "batches.workers": self.batches.workers,
            "seed": self.seed,
        }
        below_one = {"batches.scale": self.batches.scale, "ema_decay": self.ema_decay}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise RecipeError(f"{name} must be above 0, found {value}")
        for name, value in not_negative.items():
            if not 0 <= value < math.inf:
                raise RecipeError(f"{name} must be 0 or above, found {value}")
        for name, value in below_one.items():
            if not 0 <= value < 1:
                raise RecipeError(f"{name} lies from 0 up to, not including, 1, found {value}")

    @property
    def preparation(self) -> Preparation:
        """What decides the content of prepared arrays."""
        return Preparation(self.grid, self.windows, self.alignment.correct)

    def to_json(self) -> str:
        """Return the recipe as JSON that `recipe_from_mapping` takes."""
        return json.dumps(asdict(self), sort_keys=True)


def shipped_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with ct2pet."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))


def load_recipe(name_or_file: str = DEFAULT_RECIPE, *, settings: Sequence[str] = ()) -> Recipe:
    """Return a shipped recipe by name, or one from a TOML file, with settings applied.

    Args:
        name_or_file: `paper`, `quantitative`, or a path that ends in .toml.
        settings: `key=value`, the key dotted (`schedule.epochs=5`) or bare where it is the only one (`epochs=5`).

    Raises:
        RecipeError: No such recipe, or a key or value it cannot have; the message names the right ones.
    """
    path = Path(name_or_file) if name_or_file.endswith(".toml") else RECIPES / f"{name_or_file}.toml"
    if not path.is_file() or not (name_or_file.endswith(".toml") or name_or_file in shipped_recipes()):
        raise RecipeError(
            f"no recipe {name_or_file!r}; shipped are {', '.join(shipped_recipes())}, or give a file that ends in .toml"
        )
    try:
        mapping = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RecipeError(f"{path}: not TOML ({error})") from error
    mapping.setdefault("name", path.stem)
    for setting in settings:
        _apply(mapping, setting)
    return recipe_from_mapping(mapping)


def recipe_from_mapping(mapping: Mapping[str, Any]) -> Recipe:
    """Return the recipe of nested plain values; unknown keys and wrong types are refused by name."""
    recipe = _build(Recipe, mapping, "")
    assert isinstance(recipe, Recipe)
    return recipe


def _apply(mapping: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    key = key.strip()
    if not separator or not key:
        raise RecipeError(f"setting {setting!r} is not key=value, such as schedule.epochs=5")
    paths = [name for name in _keys(Recipe) if name == key or name.endswith(f".{key}")]
    if len(paths) != 1:
        known = _keys(Recipe)
        hint = f"it could be {' or '.join(paths)}" if paths else _did_you_mean(key, known)
        raise RecipeError(f"setting {key!r} is not a key of a recipe; {hint}")
    section, _, name = paths[0].rpartition(".")
    target = mapping.setdefault(section, {}) if section else mapping
    if not isinstance(target, dict):
        return  # the file is wrong there, and says so when the recipe is built
    if paths[0] in ("grid.pixel_mm", "grid.size"):  # one or the other: naming one drops its rival
        target.pop("size" if name == "pixel_mm" else "pixel_mm", None)
    target[name] = _parse(text.strip())


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # TOMLDecodeError; a number of 5,000 digits; brackets without end
        return text  # a bare word is a string


def _keys(kind: type, prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, expected in typing.get_type_hints(kind).items():
        nested = dataclasses.is_dataclass(expected) and isinstance(expected, type)
        names.extend(_keys(expected, f"{prefix}{name}.") if nested else [f"{prefix}{name}"])
    return names


def _build(kind: type, mapping: Any, where: str) -> Any:
    if not isinstance(mapping, Mapping):
        raise RecipeError(f"{where or 'a recipe'} is a table of keys and values, found {mapping!r}")
    hints = typing.get_type_hints(kind)
    for key in mapping:
        if key not in hints:
            raise RecipeError(f"unknown key {where}{key}; {_did_you_mean(str(key), list(hints))}")
    values = {}
    for key, value in mapping.items():
        expected = hints[key]
        if dataclasses.is_dataclass(expected) and isinstance(expected, type):
            values[key] = _build(expected, value, f"{where}{key}.")
        else:
            values[key] = _checked(value, expected, f"{where}{key}")
    try:
        return kind(**values)
    except TypeError as error:
        absent = dataclasses.MISSING
        needed = [f.name for f in dataclasses.fields(kind) if f.default is absent and f.default_factory is absent]
        missing = ", ".join(where + name for name in needed if name not in values)
        raise RecipeError(f"the recipe lacks {missing}; see {RECIPES / DEFAULT_RECIPE}.toml") from error


def _checked(value: Any, expected: Any, where: str) -> Any:
    if typing.get_origin(expected) is Literal:
        if value not in get_args(expected):
            raise RecipeError(f"{where} is one of {', '.join(map(str, get_args(expected)))}, found {value!r}")
        return value
    kinds = get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        names = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in kinds)
        raise RecipeError(f"{where} is {names}, found {value!r}")
    return value


def _did_you_mean(word: str, known: list[str]) -> str:
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(word.rpartition(".")[2], list(leaves), n=1)
    return f"did you mean {leaves[close[0]]}?" if close else f"known are {', '.join(known)}"
