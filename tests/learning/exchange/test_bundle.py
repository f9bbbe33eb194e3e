"""A MONAI bundle of our model, run by MONAI without ct2pet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.errors import InputError
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.volume import Unit, Volume
from lib.learning.exchange.export_bundle import export_bundle
from lib.phantom.generate import phantom_patient
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.exchange.models import COARSE, save_model

# `python -m monai.bundle` in a process that cannot import ct2pet
RUN = """
import importlib.util, runpy, sys
assert importlib.util.find_spec("lib") is None
sys.argv = ["monai.bundle", "run", "--config_file", "configs/inference.json", "--dataset_dir", "data"]
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""
# of MONAI's schema for metadata.json, version 20240725
REQUIRED_KEYS = {
    "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task", "description",
    "authors", "copyright", "network_data_format",
}  # fmt: skip
REQUIRED_OF_IMAGE = {
    "type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"
}  # fmt: skip


def test_monai_alone_gives_the_same_pet(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model.safetensors", "context_spacing_mm=8.0")
    bundle = tmp_path / "bundle"
    export_bundle(model, bundle)
    ct = phantom_patient(1, 0, COARSE).ct
    ct = Volume(np.round(ct.array).astype(np.float32), ct.geometry, Unit.HU)
    (bundle / "data").mkdir()
    write_volume_file(ct, bundle / "data" / "P1.nii.gz")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=bundle, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = read_volume_file(bundle / "eval" / "P1_pet.nii.gz", unit=Unit.SUV_BW)
    expected = Synthesizer.load(model, device="cpu", precision="float32").apply(ct)
    assert found.geometry.same_grid_as(expected.geometry) and expected.array.std() > 0.02
    np.testing.assert_allclose(found.array, expected.array, atol=1e-3)


def test_the_files_of_a_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "new" / "bundle"
    export_bundle(save_model(tmp_path / "model.safetensors", "stages=1", "flips=false"), bundle)
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files == {
        "LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.ts",
        "scripts/__init__.py", "scripts/inferer.py",
    }  # fmt: skip
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata.keys() >= REQUIRED_KEYS and "NOT FOR DIAGNOSIS" in metadata["intended_use"]
    formats = metadata["network_data_format"]
    for image in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert image.keys() >= REQUIRED_OF_IMAGE
    readme = (bundle / "docs" / "README.md").read_text()
    assert "NOT FOR DIAGNOSIS" in readme and "lesions may appear that do not exist" in readme
    assert not [path for path in bundle.parent.iterdir() if path != bundle]  # nothing temporary is left
    with pytest.raises(InputError, match="exists; give a new folder"):
        export_bundle(tmp_path / "model.safetensors", bundle)
