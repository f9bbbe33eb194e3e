"""The SLURM job of docs/deploy on this machine: SLURM's programs are replaced, Ray and the cohort are real."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from lib.phantom.generate import write_phantoms
from tests.conftest import missing
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.tiny_studies import TINY
from tests.documents.commands import ROOT
from tests.server.processes import free_port, stop_process

PROGRAMS = {  # each node of the job is this machine
    "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"',
    "scontrol": 'printf "node1\\nnode2\\n"',
    "hostname": "echo 127.0.0.1",
}


@pytest.mark.slow
def test_the_job_runs_a_cohort_on_two_nodes(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        missing("ray", "requirements-ray.txt is not installed")
    write_phantoms(tmp_path / "studies", patients=2, settings=TINY)
    save_constant_model(tmp_path / "model.safetensors", 1.5, stages=1)
    (tmp_path / "bin").mkdir()
    for name, program in PROGRAMS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{program}\n")
        path.chmod(0o755)
    variables = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REPOSITORY": str(ROOT), "PORT": str(free_port()),
        "STUDIES": str(tmp_path / "studies"), "MODEL": str(tmp_path / "model.safetensors"),
        "OUT": str(tmp_path / "cohort"), "CT2PET_CACHE": str(tmp_path / "cache"), "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "7",
    }  # fmt: skip
    log = tmp_path / "job.log"
    with log.open("wb") as file:
        job = subprocess.Popen(
            ["bash", ROOT / "docs" / "deploy" / "ct2pet-cohort.sbatch"], cwd=tmp_path, env={**os.environ, **variables},
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        code = job.wait(timeout=180)
    finally:
        stop_process(job)  # as SLURM ends what a job leaves running
    assert code == 0, log.read_text()[-3000:]
    assert len(list((tmp_path / "cohort" / "series").iterdir())) == 2
