"""What requests may hold: inference and training out of loose JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monailabel.config import settings as monailabel_settings

from ct2pet_app.errors import RequestError
from ct2pet_app.infer_request import InferOptions
from ct2pet_app.settings import AppSettings
from ct2pet_app.train_request import TrainRequest, shown_settings
from lib.errors import InputError
from lib.learning.tracking import Tracking

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


def test_tracking_is_asked_for_in_monai_labels_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training().tracking is None and shown_settings(SETTINGS, "cascade3")["tracking"] == ["None", "mlflow"]
    assert training(tracking=["None", "mlflow"]).tracking is None  # as clients that show no choice send it back
    assert training(tracking="mlflow").tracking == Tracking("", "cascade3")
    asked = {"tracking_uri": "http://host:5000", "tracking_experiment_name": "limbs", "tracking_run_name": "first"}
    assert training(tracking="mlflow", **asked).tracking == Tracking("http://host:5000", "limbs", "first")
    monkeypatch.setattr(monailabel_settings, "MONAI_LABEL_TRACKING_URI", "sqlite:////data/runs.db")
    assert training().tracking == Tracking("sqlite:////data/runs.db", "cascade3")
    assert shown_settings(SETTINGS, "cascade3")["tracking"] == ["mlflow", "None"]
    assert training(tracking="None").tracking is None


@pytest.mark.parametrize("uri", ["/etc/cron.d", "file:///etc", "sqlite:////etc/x.db", "postgresql://host/db"])
def test_a_client_cannot_choose_a_file_of_the_server_to_track_in(uri: str) -> None:
    with pytest.raises(RequestError, match="expected the http:// or https:// address of a tracking server"):
        training(tracking="mlflow", tracking_uri=uri)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tracking": "wandb"}, "tracking 'wandb': expected mlflow or none"),
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
