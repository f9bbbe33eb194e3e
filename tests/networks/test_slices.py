"""A cascade applied to the slices of a volume."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from lib.networks.cascade import Cascade, NetworkConfig
from lib.networks.slices import context_indices, predict_stages
from lib.types import FloatArray

CONFIG = NetworkConfig(stages=2, base_channels=4, depth=2, context_slices=5, context_spacing_mm=3.0)
CPU = torch.device("cpu")


@pytest.fixture
def cascade() -> Cascade:
    torch.manual_seed(0)
    return Cascade(CONFIG).eval()


def last_stage(cascade: Cascade, ct: FloatArray, **message: Any) -> FloatArray:
    """The last stage's PET of every slice, (K, R, C)."""
    return np.stack([stages[-1] for stages in predict_stages(cascade, ct, range(len(ct)), **message)])


@pytest.mark.parametrize(
    ("index", "spacing_mm", "expected"),
    [(5, 3.0, [3, 4, 5, 6, 7]), (0, 3.0, [0, 0, 0, 1, 2]), (9, 3.0, [7, 8, 9, 9, 9]), (5, 1.5, [1, 3, 5, 7, 9])],
)
def test_context_indices_are_clamped_at_the_ends(index: int, spacing_mm: float, expected: list[int]) -> None:
    assert context_indices(index, 10, config=CONFIG, slice_spacing_mm=spacing_mm) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_slab_equals_the_same_slices_of_the_full_volume(cascade: Cascade, precision: str) -> None:
    ct = np.random.default_rng(0).random((9, 21, 30)).astype(np.float32)
    full = last_stage(cascade, ct, slice_spacing_mm=3.0, device=CPU, precision=precision)
    slab = predict_stages(cascade, ct, range(3, 6), slice_spacing_mm=3.0, device=CPU, precision=precision)  # type: ignore[arg-type]
    np.testing.assert_array_equal([stages[-1] for stages in slab], full[3:6])


def test_every_stage_is_returned(cascade: Cascade) -> None:
    ct = np.random.default_rng(0).random((4, 16, 16)).astype(np.float32)
    stages = list(predict_stages(cascade, ct, [1, 3], slice_spacing_mm=3.0, device=CPU))
    assert [pet.shape for pet in stages] == [(2, 16, 16)] * 2


def test_with_flips_a_pet_is_the_mean_over_the_mirrored_ct(cascade: Cascade) -> None:
    ct = np.random.default_rng(0).random((4, 21, 30)).astype(np.float32)
    plain, mirrored = (
        last_stage(cascade, np.ascontiguousarray(x), slice_spacing_mm=3.0, device=CPU, precision="float32")
        for x in (ct, ct[..., ::-1])
    )
    predicted = predict_stages(cascade, ct, range(4), slice_spacing_mm=3.0, device=CPU, precision="float32", flips=True)
    np.testing.assert_array_equal([stages[-1] for stages in predicted], (plain + mirrored[..., ::-1]) / 2)
    assert not np.array_equal(plain, mirrored[..., ::-1])


@pytest.mark.parametrize("columns", [30, 32])
def test_with_flips_the_mirrored_ct_gives_the_mirrored_pet(cascade: Cascade, columns: int) -> None:
    ct = np.random.default_rng(0).random((3, 16, columns)).astype(np.float32)
    both = [
        list(predict_stages(cascade, np.ascontiguousarray(x), range(3), slice_spacing_mm=3.0, device=CPU, flips=True))
        for x in (ct, ct[..., ::-1])
    ]
    np.testing.assert_array_equal(both[0], np.stack(both[1])[..., ::-1])


def test_with_flips_a_slab_equals_the_same_slices_of_the_full_volume(cascade: Cascade) -> None:
    ct = np.random.default_rng(0).random((9, 21, 30)).astype(np.float32)
    full, slab = (
        list(predict_stages(cascade, ct, indices, slice_spacing_mm=3.0, device=CPU, flips=True))
        for indices in (range(9), range(3, 6))
    )
    np.testing.assert_array_equal(slab, full[3:6])


class Crowded(Cascade):
    """Runs out of memory with more than a number of slices at once."""

    limit: int
    largest = 0

    def forward(self, ct: torch.Tensor) -> list[torch.Tensor]:
        if len(ct) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.largest = max(self.largest, len(ct))
        return super().forward(ct)


def test_too_little_memory_is_answered_by_smaller_batches() -> None:
    ct = np.random.default_rng(0).random((7, 16, 16)).astype(np.float32)
    as_on_a_gpu = {"slice_spacing_mm": 3.0, "device": CPU, "precision": "float32", "at_once": False}
    torch.manual_seed(0)
    crowded = Crowded(CONFIG).eval()
    crowded.limit = 4
    expected = last_stage(crowded, ct, **as_on_a_gpu)
    crowded.limit, crowded.largest = 2, 0
    found = last_stage(crowded, ct, **as_on_a_gpu)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert crowded.largest == 2
    crowded.limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        last_stage(crowded, ct, **as_on_a_gpu)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_slab_equals_the_full_volume_on_a_gpu(cascade: Cascade) -> None:
    cuda = torch.device("cuda")
    ct = np.random.default_rng(0).random((40, 64, 64)).astype(np.float32)
    cascade = cascade.to(cuda)
    full = last_stage(cascade, ct, slice_spacing_mm=3.0, device=cuda)
    slab = predict_stages(cascade, ct, range(13, 21), slice_spacing_mm=3.0, device=cuda)
    np.testing.assert_array_equal([stages[-1] for stages in slab], full[13:21])


def test_the_number_of_threads_does_not_change_a_bit(cascade: Cascade) -> None:
    ct = np.random.default_rng(0).random((11, 21, 30)).astype(np.float32)
    before, pets = torch.get_num_threads(), {}
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            pets[threads] = last_stage(cascade, ct, slice_spacing_mm=3.0, device=CPU, precision="float32")
            assert torch.get_num_threads() == threads
            with ThreadPoolExecutor(1) as other:
                assert other.submit(torch.get_num_threads).result() == threads  # as for the server's next request
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(pets[1], pets[2]) and np.array_equal(pets[1], pets[3])


def test_an_error_in_a_thread_is_raised_and_leaves_the_threads_usable(cascade: Cascade) -> None:
    class Failing:
        config = cascade.config

        def __call__(self, ct: torch.Tensor) -> list[torch.Tensor]:
            raise ValueError("no such layer")

    before = torch.get_num_threads()
    ct = np.zeros((9, 16, 16), np.float32)
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="no such layer"):
            list(predict_stages(Failing(), ct, range(9), slice_spacing_mm=3.0, device=CPU))
        assert len(list(predict_stages(cascade, ct, range(9), slice_spacing_mm=3.0, device=CPU))) == 9
    finally:
        torch.set_num_threads(before)
