"""The settings of `--conf`, and the message for an invalid one, which lists the valid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct2pet_app.errors import SettingsError
from ct2pet_app.settings import AppSettings
from lib.errors import InputError, RecipeError


def settings_of(**conf: str) -> AppSettings:
    return AppSettings.from_conf(conf, app_folder=Path("app"))


def test_the_default_is_cascade3_under_the_quantitative_recipe() -> None:
    settings = settings_of()
    assert (settings.models, settings.recipe) == (("cascade3",), "quantitative")
    assert settings.models_folder == Path("app/model").resolve()


def test_all_models_can_be_selected() -> None:
    assert settings_of(models="all").models == ("unet", "cascade2", "cascade3", "cascade4", "cascade5", "cascade6")


@pytest.mark.parametrize(("model", "stages"), [("unet", 1), ("cascade2", 2), ("cascade6", 6)])
def test_a_models_name_says_how_many_stages(model: str, stages: int) -> None:
    assert settings_of(models=model).recipe_of(model).network.stages == stages


def test_recipe_width_and_settings_reach_the_recipe() -> None:
    recipe = settings_of(recipe="paper", width="12", set="epochs=7; patience=2").recipe_of("cascade3")
    assert (recipe.name, recipe.network.base_channels) == ("paper", 12)
    assert (recipe.schedule.epochs, recipe.schedule.patience) == (7, 2)


WRONG = {
    "key": ({"model": "unet"}, SettingsError, "--conf 'model' is no setting; did you mean models"),
    "model": (
        {"models": "cascade7"},
        SettingsError,
        "--conf models .*no model cascade7; did you mean cascade.*cascade6, all",
    ),
    "no model": ({"models": ","}, SettingsError, "names no model; give them comma-separated, or all"),
    "width": ({"width": "wide"}, SettingsError, "width 'wide': expected a whole number above 0"),
    "recipe": ({"recipe": "papr"}, RecipeError, "unknown recipe 'papr': expected paper, quantitative"),
    "recipe setting": ({"set": "epoch=3"}, RecipeError, "did you mean schedule.epochs"),
    "precision": ({"precision": "int8"}, SettingsError, "expected one of auto, float32, bfloat16"),
    "device": ({"device": "gpu"}, SettingsError, "device 'gpu': expected one of auto, cpu, cuda"),
    "upload limit": ({"max_upload_mb": "0"}, SettingsError, "max_upload_mb '0': expected a whole number of MB above 0"),
    "origin": ({"origins": "viewer.example"}, SettingsError, "expected comma-separated origins.*https://viewer"),
}


@pytest.mark.parametrize(("conf", "kind", "message"), WRONG.values(), ids=WRONG)
def test_an_invalid_setting_is_refused_with_the_valid_ones(
    conf: dict[str, str], kind: type[InputError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        settings_of(**conf)
