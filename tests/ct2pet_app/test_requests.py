"""What requests may hold: inference and training out of loose JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monailabel.config import settings as monailabel_settings

from ct2pet_app.batch.request import BatchRequest
from ct2pet_app.errors import RequestError
from ct2pet_app.inference.request import InferOptions
from ct2pet_app.scoring.task import scoring_settings
from ct2pet_app.settings import AppSettings
from ct2pet_app.training.request import TrainParams, TrainRequest, shown_settings
from ct2pet_app.validation import BoundaryModel
from lib.errors import InputError
from lib.learning.tracking.options import Tracking

SETTINGS = AppSettings.from_conf({"tracking_uris": "http://host:5000/, https://runs.example"}, app_folder=Path("app"))


def training(**params: Any) -> TrainRequest:
    return TrainRequest.from_params(params, model="cascade3", settings=SETTINGS)


@pytest.mark.parametrize(
    ("text", "slab"),
    [("10:20", slice(10, 20)), (" 3 : 5 ", slice(3, 5)), ("-4:", slice(-4, None)), ("", None), (None, None)],
)
def test_a_slab_is_read(text: str | None, slab: slice | None) -> None:
    assert InferOptions.from_params({"slices": text}).slices == slab


@pytest.mark.parametrize("extension", [".nii.gz", "nii.gz", ".NII.GZ"])
def test_a_result_may_be_nifti(extension: str) -> None:
    assert InferOptions.from_params({"result_extension": extension}).extension == ".nii.gz"


def test_what_the_stock_slicer_module_sends_is_taken_and_what_means_nothing_is_named() -> None:
    sent = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "client_id": "x",
            "device": "cuda", "slice": "3:4"}  # fmt: skip
    options = InferOptions.from_params(sent)
    assert (options.extension, options.compress, options.ignored) == (".nrrd", False, ("slice",))


@pytest.mark.parametrize("key", ["image", "images", "file", "path", "session", "label", "model"])
def test_params_may_not_choose_a_file(key: str) -> None:
    with pytest.raises(RequestError, match=f"params must not contain '{key}': select the image by"):
        InferOptions.from_params({key: "/etc/passwd"})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"slices": "3-5"}, "slices '3-5': expected A:B, for example 10:20"),
        ({"result_extension": ".png"}, "expected one of .nrrd, .nii.gz, .mha"),
        ({"metrics": "perhaps"}, "metrics 'perhaps': expected true or false"),
        ({"uncertainty": "much"}, "uncertainty 'much': expected true or false, or only"),
        ({"uncertainty": "only", "save_label": True}, "a label is a PET"),
    ],
)
def test_a_wrong_inference_parameter_says_what_is_right(params: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        InferOptions.from_params(params)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "no"), (False, "no"), ("false", "no"), (True, "both"), ("1", "both"), ("only", "only")],
)
def test_the_uncertainty_is_an_extra_file_or_the_only_one(value: object, expected: str) -> None:
    params = {} if value is None else {"uncertainty": value}
    assert InferOptions.from_params(params).uncertainty == expected


def test_monai_label_parameters_reach_the_recipe() -> None:
    recipe = training(max_epochs=3, train_batch_size=2, learning_rate=0.01, set="seed=5;patience=1").recipe
    assert (recipe.schedule.epochs, recipe.batches.size, recipe.optimiser.learning_rate) == (3, 2, 0.01)
    assert (recipe.seed, recipe.schedule.patience, recipe.network.stages) == (5, 1, 3)


def test_the_shown_settings_sent_back_unchanged_are_the_servers_recipe() -> None:
    shown = shown_settings(SETTINGS, "cascade3")
    assert training(**shown).recipe == SETTINGS.recipe_of("cascade3")


def test_choices_are_shown_as_strings_with_the_default_first() -> None:
    shown = shown_settings(SETTINGS, "cascade3")
    assert shown["recipe"][0] == "quantitative"
    assert all(isinstance(choice, str) for choice in (*shown["recipe"], *shown["publish"]))


def test_a_training_requested_on_cuda_runs_on_the_device_of_the_server() -> None:
    assert training(device="cuda").device == "auto"


def test_tracking_uses_the_parameters_of_monai_label(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training().tracking is None and shown_settings(SETTINGS, "cascade3")["tracking"] == ["None", "mlflow"]
    assert training(tracking=["None", "mlflow"]).tracking is None  # as clients that show no choice send it back
    assert training(tracking="mlflow").tracking == Tracking("", "cascade3")
    settings = {"tracking_uri": "http://host:5000", "tracking_experiment_name": "limbs", "tracking_run_name": "first"}
    assert training(tracking="mlflow", **settings).tracking == Tracking("http://host:5000", "limbs", "first")
    monkeypatch.setattr(monailabel_settings, "MONAI_LABEL_TRACKING_URI", "sqlite:////data/runs.db")
    assert training().tracking == Tracking("sqlite:////data/runs.db", "cascade3")
    assert shown_settings(SETTINGS, "cascade3")["tracking"] == ["mlflow", "None"]
    assert training(tracking="None").tracking is None


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/cron.d",
        "file:///etc",
        "sqlite:////etc/x.db",
        "postgresql://host/db",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:9000",
        "http://host:50000",
        "http://host:5000@evil.example",
        "https://runs.example.evil.example",
        "https://runs.example/../x",
        "HTTP://evil.example",
    ],
)
@pytest.mark.parametrize("tracking", ["mlflow", "None"])
def test_a_client_cannot_choose_what_the_server_connects_to_or_writes(uri: str, tracking: str) -> None:
    with pytest.raises(RequestError, match="tracking_uri: expected a URL that the server's owner allows"):
        training(tracking=tracking, tracking_uri=uri)


@pytest.mark.parametrize("uri", ["http://host:5000", "https://runs.example/", "sqlite:////data/runs.db"])
def test_the_owners_tracking_servers_are_allowed(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monailabel_settings, "MONAI_LABEL_TRACKING_URI", "sqlite:////data/runs.db")
    assert training(tracking="mlflow", tracking_uri=uri).tracking == Tracking(uri, "cascade3")


POISON = {
    "NUL": "a\0b",
    "a lone surrogate": "a\ud800b",
    "not a number": float("nan"),
    "infinite": float("inf"),
    "a long text": "9" * 200_000,
    "a long number": 10**4000,
    "deep": json.loads("[" * 900 + "]" * 900),
    "deep tables": json.loads('{"a":' * 900 + "1" + "}" * 900),
    "many": [1] * 20_000,
    "a line of a log": "x\n[INFO] forged",
}


def all_keys(kind: type[BoundaryModel]) -> set[str]:
    return {*kind.known_keys(), *kind.ignored_keys, "unknown"}


@pytest.mark.parametrize("value", POISON.values(), ids=POISON)
def test_what_could_not_be_sent_back_is_refused_in_every_key(value: Any) -> None:
    for key in sorted(all_keys(TrainParams)):
        with pytest.raises(RequestError) as refused:
            training(**{key: value})
        str(refused.value).encode()
        assert len(str(refused.value)) < 1000
    for key in sorted(all_keys(BatchRequest) - {"model"}):
        with pytest.raises(RequestError) as refused:
            BatchRequest.from_mapping({"model": "unet", key: value})
        str(refused.value).encode()


@pytest.mark.parametrize("key", ["a\ud800", "a\0", "k" * 5000])
def test_a_key_that_could_not_be_sent_back_is_refused(key: str) -> None:
    for ask in (lambda: training(**{key: 1}), lambda: BatchRequest.from_mapping({"model": "unet", key: 1})):
        with pytest.raises(RequestError) as refused:
            ask()
        str(refused.value).encode()


def test_only_what_was_understood_reaches_the_process_and_means_the_same_there() -> None:
    sent = {"max_epochs": 3, "set": "seed=5;patience=1", "recipe": ["paper", "quantitative"], "bundle_path": "/tmp/x",
            "gpus": "0,1", "multi_gpu": True, "local_rank": 1, "client_id": "me", "device": "cuda",
            "tracking": "mlflow", "tracking_uri": "http://host:5000"}  # fmt: skip
    parsed = training(**sent)
    assert set(parsed.settings) == {"max_epochs", "set", "recipe", "device", "tracking", "tracking_uri"}
    assert training(**parsed.settings, model="cascade3", report="0" * 32) == parsed
    batch = {"images": ["1.2", "1.3"], "max_batch_size": "5", "slices": "1:3", "label_tag": "mine", "metrics": "false"}
    read = BatchRequest.from_mapping({"model": "unet", **batch, "gpus": "all", "bundle_path": "/tmp/x"})
    assert set(read.settings) == set(BatchRequest.known_keys())
    assert BatchRequest.from_mapping({**read.settings, "report": "0" * 32}) == read
    assert scoring_settings("metrics", {"model": "unet", "bundle_path": "/x"}) == {"method": "metrics", "model": "unet"}


@pytest.mark.parametrize(
    "params",
    [
        {"set": "batches.workers=100000"},
        {"set": 'name="a\\u0000b"'},
        {"set": f"seed={'9' * 5000}"},
        {"set": f"seed={'[' * 4000}"},
        {"set": [["seed=1"]]},
        {"set": {"seed": 1}},
        {"set": 5},
        {"device": "cuda:\u0663"},
        {"device": "cuda:99999999"},
        {"max_epochs": {"a": 1}},
        {"tracking_run_name": "n" * 201},
        {"tracking_experiment_name": "\u202egnp"},
    ],
)
def test_a_training_costs_no_more_than_the_machine_has(params: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        training(**params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tracking": "wandb"}, "tracking 'wandb': expected mlflow or none"),
        ({"epochs": 3}, "'epochs' is no training setting; did you mean max_epochs.*Any key of a recipe can be given"),
        ({"max_epochs": "many"}, "max_epochs 'many': expected a whole number above 0"),
        ({"set": "wodth=3"}, "setting 'wodth' is not a key of a recipe"),
        ({"recipe": "../../etc/recipe.toml"}, "recipe '../../etc/recipe.toml': known are paper, quantitative"),
        ({"publish": "never"}, "expected one of if_not_worse, always"),
        ({"resume": "maybe"}, "resume 'maybe': expected true or false"),
    ],
)
def test_a_wrong_training_parameter_says_what_is_right(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        training(**params)
