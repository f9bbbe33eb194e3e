"""Write a model as a MONAI bundle, which MONAI runs without ct2pet."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import lib
from lib.errors import InputError, OutputError
from lib.files import file_checksum, unfinished_folder
from lib.learning.checkpoint import load_checkpoint
from lib.learning.exchange import bundle_inferer
from lib.learning.exchange.physical import TRACED_SIZE, PhysicalCascade, example_hu, require_equal, tracing
from lib.learning.model_card.card import ModelCard
from lib.learning.model_card.facts import card_facts

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
LICENSE = Path(lib.__file__).resolve().parents[1] / "LICENSE"
PACKAGES = ("fire", "nibabel", "pytorch-ignite")  # what MONAI needs in addition to run it


def export_bundle(model: Path, out: Path) -> ModelCard:
    """Write a checkpoint as a MONAI bundle, and return its card.

    ::

        OUT/configs/metadata.json  inference.json
        OUT/models/model.ts         the network with its normalisation, TorchScript: HU to SUVbw
        OUT/scripts/inferer.py      slices and their context
        OUT/docs/README.md          the model card
        OUT/LICENSE                 of the scripts

    Raises:
        CheckpointError: Not a model that was trained here.
        InputError: The folder exists.
        TrainingError: The exported network differs from the model.
        OutputError: The bundle cannot be written; nothing is left.
    """
    cascade, card = load_checkpoint(model)
    if out.exists():
        raise InputError(f"{out} exists; give a new folder for the bundle")
    network = PhysicalCascade(cascade, card).eval()
    with tracing():
        traced: Any = torch.jit.trace(network, (example_hu(card, TRACED_SIZE),), check_trace=False)
        require_equal(traced, network, card)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(out.parent, f".{out.name}") as folder:
            _write(folder, traced, card, file_checksum(model))
            folder.rename(out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error}); nothing was written, free space") from error
    return card


def _write(folder: Path, traced: Any, card: ModelCard, weights_sha256: str) -> None:
    for name in ("configs", "models", "scripts", "docs"):
        (folder / name).mkdir()
    with tracing():  # saving a trace is deprecated, too
        traced.save(str(folder / "models" / "model.ts"))
    shutil.copyfile(str(bundle_inferer.__file__), folder / "scripts" / "inferer.py")
    (folder / "scripts" / "__init__.py").touch()
    for name, content in (("metadata", _metadata(card, weights_sha256)), ("inference", _inference(card))):
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    (folder / "docs" / "README.md").write_text(_readme(card), encoding="utf-8")
    shutil.copyfile(LICENSE, folder / "LICENSE")


def _metadata(card: ModelCard, weights_sha256: str) -> dict[str, Any]:
    windows = card.recipe.windows

    def image(kind: str, modality: str, low: float, high: float) -> dict[str, Any]:
        """Return the format of a volume."""
        return {
            "type": "image", "format": kind, "modality": modality, "num_channels": 1,
            "spatial_shape": ["*", "*", "*"], "dtype": "float32", "value_range": [low, high], "is_patch_data": False,
            "channel_def": {"0": "image"},
        }  # fmt: skip

    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by ct2pet {lib.__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in PACKAGES},
        "name": card.name,
        "task": "Synthesis of PET from CT",
        "description": f"{card.intended_use} {card.standing.sentence}",
        "authors": "the owner of the model",
        "copyright": "see LICENSE for the scripts; the weights belong to the owner of the model",
        "intended_use": card.intended_use,
        "weights_sha256": weights_sha256,
        "network_data_format": {
            "inputs": {"image": image("hounsfield", "CT", windows.ct_low_hu, windows.ct_high_hu)},
            "outputs": {"pred": image("magnitude", "PT", 0.0, windows.pet_high_suv)},
        },
    }


def _inference(card: ModelCard) -> dict[str, Any]:
    network, grid = card.network, card.recipe.grid
    return {
        "imports": ["$import pathlib", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "data": "$[{'image': str(path)} for path in sorted(pathlib.Path(@dataset_dir).glob('*.nii*'))]",
        "network_def": {
            "_target_": "torch.jit.load",
            "f": "$@bundle_root + '/models/model.ts'",
            "map_location": "@device",
        },
        "network": "$@network_def.eval()",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS", "labels": None},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@data", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "scripts.inferer.ContextSliceInferer",
            "context_slices": network.context_slices,
            "context_spacing_mm": network.context_spacing_mm,
            "pixel_mm": grid.pixel_mm,
            "size": grid.size,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
                    "nearest_interp": False, "to_tensor": True,
                },
                {
                    "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "pet",
                    "output_dtype": "$numpy.float32", "resample": False, "separate_folder": False,
                },
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing", "amp": False,
        },
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _readme(card: ModelCard) -> str:
    facts = "\n".join(f"| {name} | {fact} |" for name, fact in card_facts(card).items())
    return f"""# {card.name}

Synthetic PET (SUVbw) from CT (HU). {card.intended_use}

{card.standing.sentence}

| | |
| --- | --- |
{facts}

{card.limits}

## Run it

Put CTs in HU as NIfTI (`.nii`, `.nii.gz`) into `data`, and run in this folder:

```
pip install "monai[fire,ignite,nibabel]"
python -m monai.bundle run --config_file configs/inference.json
```

`eval/<name>_pet.nii.gz` is the synthetic PET, float32 SUVbw on the CT's grid. `--dataset_dir` and `--output_dir` name
other folders. `models/model.ts` takes slices in HU at the network's pixel size (N, context, rows, columns) and returns
SUVbw (N, 1, rows, columns).

Exported by ct2pet {lib.__version__}. `LICENSE` is that of the scripts; the weights belong to the owner of the model.
"""
