"""Two nodes train one model: different patients, the weights of one process, one published file; a node may be lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.learning.checkpoint import load_checkpoint, read_card
from lib.learning.tracking.progress import read_history
from lib.learning.training import MODEL_FILE
from lib.pairing.prepared import PreparedSet
from tests.learning.conftest import TINY, tiny_recipe
from tests.learning.global_batches import train_on_global_batches

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

# main.py, recording which patients each process samples and its final weights; one node may die after an epoch
OBSERVED = """
import hashlib, json, os, signal, sys
from pathlib import Path
import main
from lib.learning.dataset import SliceDataset
from lib.learning.trainer import Trainer

seen, get_item, call = set(), SliceDataset.__getitem__, Trainer.__call__

def note_key(self, key):
    seen.add(self.arrays[self.samples[key.sample][0]].pair.patient_id)
    return get_item(self, key)

def note_end(self):
    outcome = call(self)
    weights = b"".join(tensor.numpy().tobytes() for tensor in self.cascade.state_dict().values())
    record = {"patients": sorted(seen), "weights": hashlib.sha256(weights).hexdigest(), "epochs": outcome.epochs}
    (Path(os.environ["OBSERVED"]) / f"{os.environ['RANK']}.json").write_text(json.dumps(record))
    return outcome

def die(self, engine, completed=Trainer._on_epoch_completed):
    completed(self, engine)
    if engine.state.epoch == int(os.environ.get("DIES_AFTER", 0)):
        for process in (os.getppid(), os.getpid()):  # torchrun first
            os.kill(process, signal.SIGKILL)

SliceDataset.__getitem__, Trainer.__call__, Trainer._on_epoch_completed = note_key, note_end, die
sys.exit(main.main())
"""


class Nodes:
    """Starts torchrun as on several machines, with one process each, over the loopback device alone."""

    def __init__(self, port: int) -> None:
        self._endpoint = f"127.0.0.1:{port}"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Start a script on a node; the first node hosts the rendezvous."""
        conf = f"is_host={not self.started},keep_alive_interval=1"
        launcher = (
            "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=2",
            "--rdzv-backend=c10d", f"--rdzv-endpoint={self._endpoint}", f"--rdzv-conf={conf}", "--local-addr=127.0.0.1",
        )  # fmt: skip
        alone = {
            "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }  # fmt: skip
        node = subprocess.Popen(
            [sys.executable, *launcher, *map(str, arguments)], cwd=ROOT, text=True,
            env={**os.environ, **alone, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(node)
        return node


def ended(node: subprocess.Popen[str]) -> str:
    """Return what a node that succeeded printed."""
    output, errors = node.communicate(timeout=240)
    assert node.returncode == 0, errors
    return output


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nodes = Nodes(port)
    yield nodes
    for node in nodes.started:
        node.terminate()  # torchrun ends its process, too
        node.communicate()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute sums in the order of the nodes, which have one thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe_options(*settings: str) -> list[str]:
    return [argument for setting in (*TINY, *settings) for argument in ("--set", setting)]


def largest_difference(first: Path, second: Path) -> float:
    """Return the largest difference between the weights and the running statistics of two models."""
    found, expected = (load_checkpoint(path)[0].state_dict() for path in (first, second))
    return max(
        float((tensor - expected[name]).abs().max()) for name, tensor in found.items() if tensor.is_floating_point()
    )


def test_a_lost_node_comes_back_and_the_weights_are_those_of_one_process(
    prepared: PreparedSet, tmp_path: Path, nodes: Nodes, one_thread: None
) -> None:
    run, script = tmp_path / "run", tmp_path / "observed.py"
    # the clocks of two processes never agree; the learning rates must
    settings = ("epochs=4", "max_minutes=60", "precision=float32", "normalization=none")
    started = script, "train", prepared.root, "--out", run, *recipe_options(*settings), "--resume", "--json"
    script.write_text(OBSERVED)
    stays = nodes.start(*started, OBSERVED=str(tmp_path))
    dies = nodes.start(*started, OBSERVED=str(tmp_path), DIES_AFTER="2")
    dies.communicate(timeout=240)
    assert dies.returncode == -signal.SIGKILL
    assert [record.epoch for record in read_history(run)] == [1, 2] and not (run / MODEL_FILE).exists()

    returns = nodes.start(*started, OBSERVED=str(tmp_path))
    reported = json.loads(ended(stays) + ended(returns))  # once, not once a process
    assert reported["model"] == str(run / MODEL_FILE)
    assert (reported["epochs"], reported["stopped_because"]) == (4, "all 4 epochs are done")

    ranks: list[dict[str, Any]] = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    patients = [set(rank["patients"]) for rank in ranks]
    assert all(patients) and not patients[0] & patients[1]
    assert patients[0] | patients[1] == {"P0", "P1", "P5"}
    assert ranks[0]["weights"] == ranks[1]["weights"]

    history = read_history(run)
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    card = read_card(run / MODEL_FILE)
    assert card.scores is not None and card.training.slices == 18
    # the two validation patients were measured in two processes; the card's metrics come from one
    best = history[card.epoch - 1].metrics
    for name in ("mae_suv_body", "psnr_db_body"):
        assert best[name] == pytest.approx(card.scores.table["model"][name], rel=1e-4)

    alone = train_on_global_batches(prepared, tiny_recipe(*settings), tmp_path / "alone")
    expected = read_history(tmp_path / "alone")
    assert [record.loss for record in history] == pytest.approx([record.loss for record in expected], rel=1e-4)
    assert largest_difference(run / MODEL_FILE, alone.model) < 1e-5
    assert alone.card.training == card.training
    names, of_one = ({path.name for path in folder.iterdir() if path.is_file()} for folder in (run, tmp_path / "alone"))
    # a file of an epoch before the node was lost is removed by the next resumption only
    assert names - {"resume_checkpoint_1.pt", "resume_checkpoint_2.pt"} == of_one


def test_batches_are_normalised_by_process_and_the_statistics_are_the_mean(
    prepared: PreparedSet, tmp_path: Path, nodes: Nodes, one_thread: None
) -> None:
    # at a higher rate, Adam turns the rounding of gradients that are zero, those of biases before a norm, into steps
    settings = ("epochs=1", "precision=float32", "normalization=batch", "learning_rate=0.000001")
    started = "main.py", "train", prepared.root, "--out", tmp_path / "run", *recipe_options(*settings)
    for process in [nodes.start(*started) for _ in range(2)]:
        ended(process)
    alone = train_on_global_batches(prepared, tiny_recipe(*settings), tmp_path / "alone")
    assert largest_difference(tmp_path / "run" / MODEL_FILE, alone.model) < 1e-4
