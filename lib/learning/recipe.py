"""A recipe: all settings of an experiment in one frozen dataclass, read from TOML and validated."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from lib.errors import RecipeError
from lib.imaging.grid import Grid
from lib.imaging.normalize import Windows
from lib.mapping import did_you_mean, dotted_keys, from_mapping
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

RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (
        ("optimiser.learning_rate", "schedule.epochs", "batches.size", "batches.patch", "loss.beta"),
        lambda value: 0 < value < math.inf,
        "above 0",
    ),
    (
        ("loss.background_weight", "loss.uptake_weight", "optimiser.weight_decay", "optimiser.clip_norm",
         "schedule.warmup_epochs", "schedule.patience", "schedule.max_minutes", "batches.rotate_degrees",
         "batches.ct_shift", "batches.ct_noise", "batches.workers", "synthesis.max_difference_suv", "seed"),
        lambda value: 0 <= value < math.inf,
        "0 or above",
    ),
    (("batches.scale", "ema_decay"), lambda value: 0 <= value < 1, "at least 0 and below 1"),
)  # fmt: skip


@dataclass(frozen=True)
class LossConfig:
    """The training loss, in the unit range.

    Attributes:
        kind: `mse` (as in the paper), `l1`, or `smooth_l1` (quadratic below `beta`, linear above).
        beta: Parameter of `smooth_l1`, unit range.
        region: `image` gives every pixel the same weight, including the background (as in the paper). With `body`, the
            weight is 1 in the body, `background_weight` outside, and 0 where the PET scanner did not measure.
        background_weight: Weight of measured pixels outside the body.
        uptake_weight: The weight in the body is 1 + this times the real PET, unit range: uptake is rare, and equal
            weights would underestimate it.
        supervise_stages: Whether every stage is compared with the real PET, or only the last.
    """

    kind: LossKind = "l1"
    beta: float = 0.05
    region: LossRegion = "body"
    background_weight: float = 0.1
    uptake_weight: float = 0.0
    supervise_stages: bool = True


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam or AdamW. With `adam`, weight_decay is L2 regularisation, as in the paper."""

    kind: OptimiserKind = "adamw"
    learning_rate: float = 0.001
    weight_decay: float = 0.01
    clip_norm: float = 1.0  # maximum norm of the gradient; 0 for no clipping


@dataclass(frozen=True)
class ScheduleConfig:
    """Duration of training and learning-rate schedule.

    Attributes:
        epochs: Maximum number of epochs.
        kind: `constant`, or `cosine`: a linear warm-up, then half a cosine down to 1 % of the rate.
        warmup_epochs: Warm-up of `cosine`.
        patience: Number of epochs without a better validation metric after which training stops; 0 never stops.
        max_minutes: Wall-clock limit; 0 for none. The last epoch is cut short, and `cosine` follows the clock.
        record_slices: Number of training slices and of test slices on which loss and image metrics are recorded after
            every epoch, for the paper's curves; 0 for none. They do not influence the training.
    """

    epochs: int = 60
    kind: ScheduleKind = "cosine"
    warmup_epochs: float = 1.0
    patience: int = 15
    max_minutes: float = 0.0
    record_slices: int = 0


@dataclass(frozen=True)
class BatchConfig:
    """Batches and data augmentation.

    Attributes:
        size: Slices per batch, over all processes.
        patch: Maximum rows and columns of a training slice; larger slices are cropped at random positions.
        flip: Mirror left and right at random.
        rotate_degrees, scale: Random in-plane rotation and zoom (0.1: 90 % to 110 %) of CT and PET.
        ct_shift, ct_noise: Random offset and noise (standard deviation) of the CT, unit range.
        workers: Number of processes that read slices; 0 reads in the training process.
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
    """How a trained network is applied.

    Attributes:
        flips: Average the PETs of the CT and of its left-right mirror image; takes twice the time.
        max_difference_suv: Largest difference between a fast runtime and float32 inside the body, SUVbw, estimated on
            fixed images; a runtime with a larger one is not used (`lib/networks/runtimes/choice.py`).
    """

    flips: bool = False
    max_difference_suv: float = 0.02


@dataclass(frozen=True)
class Recipe:
    """All settings of an experiment; see the purpose of each shipped recipe in `recipes/*.toml`."""

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
    ema_decay: float = 0.0  # decay of the averaged weights per step; 0 for no averaging
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for keys, is_allowed, rule in RANGES:
            for key in keys:
                value = attrgetter(key)(self)
                if not is_allowed(value):
                    raise RecipeError(f"{key} must be {rule}, found {value}")

    @property
    def preparation(self) -> Preparation:
        """The settings that determine prepared arrays."""
        return Preparation(self.grid, self.windows, self.alignment.correct)

    def to_json(self) -> str:
        """Return the recipe as JSON; `recipe_from_mapping` reads it."""
        return json.dumps(asdict(self), sort_keys=True)


def shipped_recipes() -> tuple[str, ...]:
    """Return the names of the shipped recipes."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))


def load_recipe(name_or_file: str = DEFAULT_RECIPE, *, settings: Sequence[str] = ()) -> Recipe:
    """Return a shipped recipe by name, or one from a TOML file, with settings applied.

    Args:
        name_or_file: `paper`, `quantitative`, or a path that ends in .toml.
        settings: `key=value`; the key is dotted (`schedule.epochs=5`), or bare if unique (`epochs=5`).

    Raises:
        RecipeError: Unknown recipe, invalid key or value; the message names valid ones.
    """
    path = Path(name_or_file) if name_or_file.endswith(".toml") else RECIPES / f"{name_or_file}.toml"
    if not path.is_file() or not (name_or_file.endswith(".toml") or name_or_file in shipped_recipes()):
        raise RecipeError(
            f"unknown recipe {name_or_file!r}: expected {', '.join(shipped_recipes())}, or a file that ends in .toml"
        )
    try:
        mapping = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RecipeError(f"{path}: not a valid TOML file ({error})") from error
    mapping.setdefault("name", path.stem)
    for setting in settings:
        _apply(mapping, setting)
    return recipe_from_mapping(mapping)


def recipe_from_mapping(mapping: Mapping[str, Any]) -> Recipe:
    """Return the recipe of nested plain values.

    Raises:
        RecipeError: Unknown or missing key, or invalid value; the message names the key.
    """
    try:
        return from_mapping(Recipe, mapping)
    except ValueError as error:
        raise RecipeError(f"recipe: {error}") from error


def _apply(mapping: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    key = key.strip()
    if not separator or not key:
        raise RecipeError(f"invalid setting {setting!r}: expected key=value, such as schedule.epochs=5")
    known = dotted_keys(Recipe)
    paths = [name for name in known if name == key or name.endswith(f".{key}")]
    if len(paths) != 1:
        hint = f"it could be {' or '.join(paths)}" if paths else did_you_mean(key, known)
        raise RecipeError(f"setting {key!r} is not a key of a recipe; {hint}")
    section, _, name = paths[0].rpartition(".")
    target = mapping.setdefault(section, {}) if section else mapping
    if not isinstance(target, dict):
        return  # invalid in the file; reported when the recipe is built
    if paths[0] in ("grid.pixel_mm", "grid.size"):  # mutually exclusive: setting one drops the other
        target.pop("size" if name == "pixel_mm" else "pixel_mm", None)
    target[name] = _parse(text.strip())


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # TOMLDecodeError; a number of 5,000 digits; brackets without end
        return text  # an unquoted string
