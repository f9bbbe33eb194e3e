"""What requests may hold: inference and training out of loose JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.errors import RequestError
from ct2pet_app.infer_request import InferOptions
from ct2pet_app.settings import AppSettings
from ct2pet_app.train_request import TrainRequest, shown_settings
from lib.errors import InputError

SETTINGS = AppSettings.from_conf({}, app_folder=Path("app"))


def training(**params: Any) -> TrainRequest:
    return TrainRequest.from_params(params, model="cascade3", settings=SETTINGS)


@pytest.mark.parametrize(
    ("text", "slab"),
    [("10:20", slice(10, 20)), (" 3 : 5 ", slice(3, 5)), ("-4:", slice(-4, None)), ("", None), (None, None)],
)
def test_a_slab_is_read(text: str | None, slab: slice | None) -> None:
    assert InferOptions.from_params({"slices": text}).slices == slab


@pytest.mark.parametrize("asked", [".nii.gz", "nii.gz", ".NII.GZ"])
def test_a_result_may_be_nifti(asked: str) -> None:
    assert InferOptions.from_params({"result_extension": asked}).extension == ".nii.gz"


def test_what_the_stock_slicer_module_sends_is_taken_and_what_means_nothing_is_named() -> None:
    sent = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "x", "device": "cuda", "slice": "3:4"}
    options = InferOptions.from_params(sent)
    assert (options.extension, options.ignored) == (".nrrd", ("slice",))


@pytest.mark.parametrize("key", ["image", "images", "file", "path", "session", "label", "model"])
def test_params_may_not_choose_a_file(key: str) -> None:
    with pytest.raises(RequestError, match=f"params may not hold '{key}': an image is chosen by"):
        InferOptions.from_params({key: "/etc/passwd"})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"slices": "3-5"}, "slices '3-5': give A:B"),
        ({"result_extension": ".png"}, "expected one of .nrrd, .nii.gz, .mha"),
        ({"metrics": "perhaps"}, "metrics 'perhaps': expected true or false"),
        ({"uncertainty": "much"}, "uncertainty 'much': expected true or false, or only"),
        ({"uncertainty": "only", "save_label": True}, "a label is a PET"),
    ],
)
def test_a_wrong_inference_parameter_says_what_is_right(params: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        InferOptions.from_params(params)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [(None, "no"), (False, "no"), ("false", "no"), (True, "beside"), ("1", "beside"), ("only", "only")],
)
def test_the_uncertainty_comes_beside_or_only(asked: object, wanted: str) -> None:
    params = {} if asked is None else {"uncertainty": asked}
    assert InferOptions.from_params(params).uncertainty == wanted


def test_monai_labels_words_reach_the_recipe() -> None:
    recipe = training(max_epochs=3, train_batch_size=2, learning_rate=0.01, set="seed=5;patience=1").recipe
    assert (recipe.schedule.epochs, recipe.batches.size, recipe.optimiser.learning_rate) == (3, 2, 0.01)
    assert (recipe.seed, recipe.schedule.patience, recipe.network.stages) == (5, 1, 3)


def test_the_shown_settings_sent_back_unchanged_are_the_servers_recipe() -> None:
    shown = shown_settings(SETTINGS, "cascade3")
    assert training(**shown).recipe == SETTINGS.recipe_of("cascade3")


def test_choices_are_shown_as_strings_with_the_default_first() -> None:
    shown = shown_settings(SETTINGS, "cascade3")
    assert shown["recipe"][0] == "quantitative"
    assert all(isinstance(word, str) for word in (*shown["recipe"], *shown["publish"]))


def test_a_training_that_asks_for_cuda_as_stock_clients_do_runs_where_the_server_says() -> None:
    assert training(device="cuda").device == "auto"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"epochs": 3}, "unknown training setting 'epochs'; did you mean max_epochs"),
        ({"max_epochs": "many"}, "schedule.epochs is int, found 'many'"),
        ({"set": "wodth=3"}, "setting 'wodth' is not a key of a recipe"),
        ({"recipe": "../../etc/recipe.toml"}, "recipe '../../etc/recipe.toml': known are paper, quantitative"),
        ({"publish": "never"}, "expected one of if_not_worse, always"),
        ({"resume": "maybe"}, "resume 'maybe': expected true or false"),
    ],
)
def test_a_wrong_training_parameter_says_what_is_right(params: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        training(**params)
