"""The requests of the documents, sent by curl as they are written, block by block: see tests/documents/rules.py."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.metrics.calibration import Calibration
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.tiny_studies import TINY
from tests.documents.rules import blocks
from tests.documents.world import provide
from tests.server.processes import RunningServer, running_server

pytestmark = [pytest.mark.server, pytest.mark.slow]

BLOCKS = blocks(of_requests=True)
PHANTOM = replace(TINY, slices=12)  # holds the sphere of the guide
SETTINGS = "pixel_mm=6.4;depth=1;context_slices=1;normalization=none;epochs=1;workers=0"
CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
CURLRC = "silent\nshow-error\nfail-with-body\nmax-time = 60\n"


@dataclass(frozen=True)
class Documented:
    """A server, and what stands for the examples of the documents.

    Attributes:
        server: With two versions of `unet` and of `cascade3`.
        examples: Texts in the documents, and the real ones.
        files: Archives by their names in the documents.
    """

    server: RunningServer
    examples: dict[str, str]
    files: dict[str, Path]


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Documented]:
    studies, other, folder = (tmp_path_factory.mktemp(name) for name in ("studies", "other", "server"))
    write_phantoms(studies, patients=2, settings=PHANTOM)
    (uploaded,) = write_phantoms(other, patients=1, seed=9, settings=PHANTOM)
    (ct, *_), (pet, *_) = (scan_folder(studies).usable(modality) for modality in ("CT", "PT"))
    centre = read_ct(ct.series).geometry.corners_mm().mean(axis=0)
    conf = {"models": "unet,cascade3", "width": "2", "set": SETTINGS}
    with running_server("ct2pet_app", studies, folder, **conf) as server:
        for name, stages in (("unet", 1), ("cascade3", 3)):
            for suv in (1.0, 2.0):
                model = save_constant_model(folder / "model.safetensors", suv, stages=stages, calibration=CURVE)
                response = server.request("PUT", f"/model/{name}", files={"file": model.read_bytes()})
                assert response.status_code == 200, response.text
        examples = {
            "http://127.0.0.1:8000": server.url,
            "PET_UID": pet.series.uid,
            "=UID": f"={ct.series.uid}",
            "[-12, 30, -420]": json.dumps(centre.tolist()),
            "10:26": "2:5",
        }
        files = {f"{name}.zip": archive(uploaded, name, folder) for name in ("ct", "pet", "study")}
        yield Documented(server, examples, files)


def archive(study: Path, name: str, folder: Path) -> Path:
    """Return a zip of one series of a study, or of the whole study."""
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for file in sorted((study if name == "study" else study / name.upper()).rglob("*.dcm")):
            zipped.write(file, file.relative_to(study))
    return path


@pytest.mark.parametrize("block", BLOCKS)
def test_requests_succeed_as_they_are_written(
    block: str, documented: Documented, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("curl")
    (tmp_path / ".curlrc").write_text(CURLRC)
    for command in BLOCKS[block]:
        provide(command.text, tmp_path, documented.files)
        text = command.text
        for example, real in documented.examples.items():
            text = text.replace(example, real)
        done = subprocess.run(
            ["bash", "-c", text], cwd=tmp_path, env={**os.environ, "CURL_HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command.place}: {text}\n{done.stdout}\n{done.stderr}"
    for task in ("train/", "scoring/", "batch/infer"):  # one of a kind at a time
        documented.server.request("DELETE", f"/{task}")
