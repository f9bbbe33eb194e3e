"""A synthetic PET slab by slab equals the whole volume, in every voxel order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.learning.checkpoint import save_checkpoint
from lib.networks.cascade import Cascade
from lib.synthesis.slabs import SLAB, synthesize_slabs
from lib.synthesis.synthesizer import Synthesizer
from tests.learning.conftest import make_card, tiny_recipe

SHAPE = (2 * SLAB + 5, 20, 18)
AXIAL, FEET_FIRST = np.diag([2.0, 2, 3, 1]), np.diag([2.0, 2, -3, 1])
SAGITTAL = np.array([[0, 0, 3, 0], [2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]], float)


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    torch.manual_seed(0)
    recipe = tiny_recipe("context_slices=3", "normalization=instance", "flips=false")
    card = make_card(recipe=recipe, network=recipe.network)
    folder = tmp_path_factory.mktemp("model")
    return Synthesizer.load(save_checkpoint(folder / "model.safetensors", Cascade(recipe.network), card), device="cpu")


def ct_of(affine: np.ndarray) -> Volume:
    array = np.random.default_rng(0).uniform(-1000, 1000, SHAPE).astype(np.float32)
    return Volume(array, Geometry(SHAPE, affine), Unit.HU)


@pytest.mark.parametrize(
    ("affine", "slices", "sizes"),
    [
        (AXIAL, None, [SLAB, SLAB, 5]),
        (FEET_FIRST, None, [SLAB, SLAB, 5]),
        (SAGITTAL, None, [2 * SLAB + 5]),
        (AXIAL, slice(3, -4), [SLAB, SLAB - 2]),
        (FEET_FIRST, slice(-3, None), [3]),
        (SAGITTAL, slice(2, 4), [2]),
    ],
    ids=["axial", "feet first", "sagittal", "axial slab", "feet first slab", "sagittal slab"],
)
def test_slabs_together_equal_the_volume(
    synthesizer: Synthesizer, affine: np.ndarray, slices: slice | None, sizes: list[int]
) -> None:
    ct, reported = ct_of(affine), []
    whole = synthesizer.apply(ct, slices)
    slabs = list(
        synthesize_slabs(synthesizer, ct, slices, progress=lambda done, total, _: reported.append((done, total)))
    )
    assert [slab.geometry.shape[0] for slab in slabs] == sizes
    np.testing.assert_array_equal(np.concatenate([slab.array for slab in slabs]), whole.array)
    assert slabs[0].geometry.same_grid_as(whole.geometry.slab(slice(0, sizes[0])))
    assert reported == [(done + 1, len(reported)) for done in range(len(reported))]


def test_a_slab_outside_the_ct_is_refused(synthesizer: Synthesizer) -> None:
    with pytest.raises(InputError, match="are not a range within the 37 slices"):
        next(synthesize_slabs(synthesizer, ct_of(AXIAL), slice(30, 40)))


def test_a_slab_is_synthesised_when_it_is_asked_for(synthesizer: Synthesizer) -> None:
    done: list[int] = []
    slabs = synthesize_slabs(synthesizer, ct_of(AXIAL), progress=lambda count, *_: done.append(count))
    assert next(slabs).geometry.shape[0] == max(done) == SLAB
