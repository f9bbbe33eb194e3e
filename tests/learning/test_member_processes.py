"""Networks that are trained at once: the same weights as one after another, and nothing left running after an error."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.errors import RecipeError, TrainingError
from lib.learning import member_processes
from lib.learning.checkpoint import load_checkpoint
from lib.learning.cross_validation.training import train_cross_validated
from lib.learning.member_processes import MemberTraining, ProcessPlan, plan_processes, train_members
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side
from lib.types import no_progress
from tests.learning.conftest import PATIENTS, tiny_recipe

SETTINGS = ("stages=1", "epochs=1", "precision=float32")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ignite")


def test_networks_trained_at_once_equal_those_trained_in_turn(prepared: PreparedSet, tmp_path: Path) -> None:
    reported: list[tuple[int, int, str]] = []
    for processes in (1, 2):
        train_cross_validated(
            prepared, tiny_recipe(*SETTINGS), tmp_path / str(processes), folds=2, device="cpu", processes=processes,
            progress=lambda done, total, what: reported.append((done, total, what)),
        )  # fmt: skip
        weights = [load_checkpoint(tmp_path / str(number) / "model.safetensors")[0] for number in {1, processes}]
        for name, one in weights[0].state_dict().items():
            torch.testing.assert_close(weights[-1].state_dict()[name], one, rtol=0, atol=0)
    assert not multiprocessing.active_children()
    assert {what.split(":")[0] for _, _, what in reported} >= {"network 1 of 2", "network 2 of 2"}
    assert all(0 <= done <= total for done, total, _ in reported)


def test_the_others_stop_when_one_training_fails(prepared: PreparedSet, tmp_path: Path) -> None:
    long, diverging = tiny_recipe(*SETTINGS, "epochs=5000"), tiny_recipe(*SETTINGS, "learning_rate=1e30", "clip_norm=0")
    everyone = dict.fromkeys(PATIENTS, Side.TRAIN)
    trainings = [
        MemberTraining(name, prepared, recipe, tmp_path / name, everyone)
        for name, recipe in (("long", long), ("diverging", replace(diverging, seed=1)))
    ]
    with pytest.raises(TrainingError, match="the loss is") as raised:
        train_members(trainings, plan=ProcessPlan(("cpu", "cpu"), 1), progress=no_progress)
    assert raised.value.code == "training_diverged"
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("processors", "processes", "trainings", "expected"),
    [
        ("2", 0, 10, (2, 1)),
        ("16", 0, 10, (10, 1)),  # six processors stay idle: a second thread gains nothing
        ("64", 0, 10, (10, 6)),
        ("16", 4, 10, (4, 4)),
        ("2", 4, 3, (3, 1)),
        ("1", 0, 10, (1, 0)),
        ("8", 1, 10, (1, 0)),  # in this process, with all its threads
    ],
)
def test_there_is_a_process_for_each_processor(
    processors: str, processes: int, trainings: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", processors)
    plan = plan_processes("cpu", trainings=trainings, processes=processes)
    assert (plan.processes, plan.threads) == expected
    assert set(plan.devices) == {"cpu"}


@pytest.mark.parametrize(
    ("device", "gpus", "processes", "expected"),
    [
        ("auto", 2, 0, ("cuda:0", "cuda:1")),
        ("auto", 4, 2, ("cuda:0", "cuda:1")),
        ("cuda", 2, 4, ("cuda:0", "cuda:1", "cuda:0", "cuda:1")),
        ("auto", 1, 0, ("auto",)),
        ("auto", 1, 3, ("auto", "auto", "auto")),
        ("cuda:1", 2, 0, ("cuda:1",)),
    ],
)
def test_there_is_a_process_for_each_gpu(
    device: str, gpus: int, processes: int, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(member_processes, "choose_device", lambda _: torch.device("cuda"))
    assert plan_processes(device, trainings=10, processes=processes).devices == expected


def test_a_negative_number_of_processes_is_rejected() -> None:
    with pytest.raises(RecipeError, match=r"processes must be 0 .* or above, found -1"):
        plan_processes("cpu", trainings=3, processes=-1)
