"""kill -9 at random moments of training, publishing and downloads: nothing half-written is read, and work goes on."""

from __future__ import annotations

import multiprocessing
import random
import shutil
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from ct2pet_app.model_registry.registry import ModelRegistry
from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.files import file_checksum
from lib.learning.checkpoint import load_checkpoint
from lib.learning.tracking.progress import read_history
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app import kill_writers
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.killed_processes import (
    EPOCHS,
    download_once,
    open_store,
    publish_for_ever,
    studies_of_pacs,
    train_once,
)
from tests.ct2pet_app.killed_writers import WRITERS, faults, start
from tests.server.orthanc import running_orthanc

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that need not import everything again: torch takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ct2pet_app.killed_processes"])
    return context


def kill_after(context: ForkServerContext, seconds: float, work: Callable[..., None], *arguments: Any) -> bool:
    """Do work in a process and kill it so long after it began; return whether it had ended by itself, and well."""
    begun = context.Event()
    process = context.Process(target=work, args=(begun, *arguments))
    process.start()
    assert begun.wait(120)
    process.join(seconds)
    ended = not process.is_alive()
    process.kill()
    process.join()
    assert not ended or process.exitcode == 0, "it failed, which is another thing than being killed"
    return ended


def check(models: ModelRegistry) -> None:
    """Fail if an entry's file is incomplete, or if the served model is not a version."""
    versions = models.versions("unet")
    for version in versions:
        assert file_checksum(version.checkpoint) == version.checksum
    published = models.published("unet")
    if published is not None:
        assert models.synthesizer("unet").checksum == published.checksum
        assert published.checksum in {version.checksum for version in versions}
        assert models.history("unet")[-1].version == published.version


def test_a_kill_while_publishing_leaves_a_complete_version_and_loses_none(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    moments, folder = random.Random(4), tmp_path / "models"
    kept: list[str] = []
    for _ in range(KILLS):
        assert not kill_after(processes, moments.uniform(0.0, 0.5), publish_for_ever, folder, tmp_path)
        models = open_store(folder)
        check(models)
        now = [version.checksum for version in models.versions("unet")]
        assert now[: len(kept)] == kept
        kept = now
    assert len(kept) >= KILLS


def test_killed_while_training_it_goes_on_and_publishes_once(processes: ForkServerContext, tmp_path: Path) -> None:
    studies, folder = tmp_path / "studies", tmp_path / "models"
    small = PhantomSettings(slices=4, ct_matrix=32, ct_pixel_mm=12.8, pet_matrix=32, pet_pixel_mm=12.8)
    write_phantoms(studies, patients=2, settings=small)
    open_store(folder).publish("unet", save_constant_model(tmp_path / "before.safetensors", 1.0, stages=1))
    moments, epochs = random.Random(4), 0
    for _ in range(KILLS):  # a training that ends meanwhile is followed by another, from what it published
        kill_after(processes, moments.uniform(0.0, 1.5), train_once, studies, folder)
        models = open_store(folder)
        check(models)
        runs = sorted(models.runs("unet").glob("*"))
        assert all((run / "verdict.json").is_file() for run in runs[:-1]), "a run was begun before the last was done"
        done = sum(len(read_history(run)) for run in runs)
        assert done >= epochs - 1, "what was finished is not done again, but for the epoch it was killed in"
        epochs = done
    assert kill_after(processes, 120, train_once, studies, folder)
    models = open_store(folder)
    check(models)
    runs = sorted(models.runs("unet").iterdir())
    for run in runs:
        assert [record.epoch for record in read_history(run)] == list(range(1, EPOCHS + 1))
        assert load_checkpoint(run / "model.safetensors")[1].epoch == EPOCHS
    assert [version.parent for version in models.versions("unet")] == [None, *range(1, len(runs) + 1)]
    served = models.published("unet")
    assert served is not None and served.version == len(runs) + 1


def test_killed_while_downloading_from_a_pacs_it_reads_no_half_of_a_file(
    processes: ForkServerContext, require_program: Callable[[str], str], sts_folder: Path, tmp_path: Path
) -> None:
    patient = sts_folder / "STS_008"
    sent = {str(dataset.SOPInstanceUID): dataset for dataset in map(dcmread, sorted(patient.rglob("*.dcm")))}
    moments, folder, kept, in_the_middle = random.Random(4), tmp_path / "cache", 0, 0
    with running_orthanc(require_program("Orthanc"), tmp_path / "orthanc", patient) as orthanc:
        for _ in range(KILLS):
            if kill_after(processes, moments.uniform(0.0, 0.4), download_once, orthanc.url, folder):
                shutil.rmtree(folder / "series")  # all was there: start again
                kept = 0
            fetched = list((folder / "series").rglob("*.dcm"))
            for path in fetched:
                assert dcmread(path).PixelData == sent[path.stem].PixelData
            assert len(fetched) >= kept, "what was fetched before is not fetched again"
            kept = len(fetched)
            in_the_middle += 0 < kept < len(sent)
        assert in_the_middle >= 3
        studies, paired = studies_of_pacs(orthanc.url, folder)
        with studies.local_files(paired.pair.ct, paired.pair.pet):
            expected = read_ct(scan_folder(patient).usable("CT")[0].series)
            np.testing.assert_array_equal(read_ct(paired.pair.ct).array, expected.array)
        studies.close()


def test_whichever_writer_is_killed_nothing_listed_is_torn_and_nothing_is_left(tmp_path: Path) -> None:
    """One kill of each writer, at a random line; `kill_writers.py` does hundreds."""
    context, moments = kill_writers.processes(), random.Random(12)
    place = kill_writers.prepared(tmp_path)
    for number, name in enumerate(WRITERS):
        assert kill_writers.kill_once(context, place, name, 2 * number, moments), f"{name} was not killed"
        start(place)
        assert not list(faults(place)), name
