"""Two processes train one model: different patients, equal weights, one published file, and it can be resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.learning.checkpoint import read_card
from lib.learning.tracking.progress import read_history
from lib.learning.training import MODEL_FILE, train
from lib.pairing.prepared import PreparedSet
from tests.learning.conftest import TINY, tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

# main.py, recording which patients each process samples and its final weights
OBSERVED = """
import hashlib, json, os, sys
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

SliceDataset.__getitem__, Trainer.__call__ = note_key, note_end
sys.exit(main.main())
"""


def torchrun(script: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes of this machine, over the loopback device alone."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2")
    alone = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *launcher, str(script), *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **alone, **environment}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def recipe_options(*settings: str) -> list[str]:
    return [argument for setting in (*TINY, *settings) for argument in ("--set", setting)]


STOPPED = OBSERVED.replace(
    "sys.exit(main.main())",
    "saved = Trainer._save_resume_file\n"
    "def save_and_die(self, trainer):\n"
    "    saved(self, trainer)\n"
    "    os._exit(9) if trainer.state.epoch == 2 else None\n"
    "Trainer._save_resume_file = save_and_die\n"
    "sys.exit(main.main())",
)


def test_two_processes_train_one_model_and_go_on_where_they_were_stopped(prepared: PreparedSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ("epochs=4", "max_minutes=60")  # the clocks of two processes never agree; the learning rates must
    arguments = ("train", prepared.root, "--out", run, *recipe_options(*settings), "--json")
    (tmp_path / "dies.py").write_text(STOPPED)
    assert torchrun(tmp_path / "dies.py", *arguments, OBSERVED=str(tmp_path)).returncode != 0
    assert [record.epoch for record in read_history(run)] == [1, 2] and not (run / MODEL_FILE).exists()

    (tmp_path / "observed.py").write_text(OBSERVED)
    done = torchrun(tmp_path / "observed.py", *arguments, "--resume", OBSERVED=str(tmp_path))
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)  # once, not once a process
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

    alone = train(prepared, tiny_recipe(*settings), tmp_path / "alone")
    expected = read_history(tmp_path / "alone")[-1].loss
    assert history[-1].loss < history[0].loss and history[-1].loss == pytest.approx(expected, rel=0.3)
    assert alone.card.training == card.training
    before = {"resume_checkpoint_1.pt", "resume_checkpoint_2.pt"}  # of the stopped processes
    names, of_one = ({path.name for path in folder.iterdir() if path.is_file()} for folder in (run, tmp_path / "alone"))
    assert names - before == of_one
