"""Variation that keeps CT, PET and regions together, and that a seed repeats."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lib.learning.augment import augment
from lib.learning.recipe import BatchConfig

NOTHING = BatchConfig(flip=False)
COUNT = 24


def varied(
    ct: Tensor, pet: Tensor, regions: Tensor, config: BatchConfig, *, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    return augment(ct, pet, regions, config=config, generator=torch.Generator().manual_seed(seed))


def blob(*, rows: int, columns: int, right: float, down: float, sigma: float = 2.0) -> Tensor:
    """Return COUNT images of a spot at an offset from the centre, pixels to the right and down."""
    y = torch.arange(rows)[:, None] - (rows - 1) / 2 - down
    x = torch.arange(columns)[None, :] - (columns - 1) / 2 - right
    return torch.exp(-(x**2 + y**2) / (2 * sigma**2)).expand(COUNT, 1, rows, columns).clone()


def centre_of(images: Tensor) -> Tensor:
    """Return (right, down) of each image's spot from the middle, pixels."""
    rows, columns = images.shape[-2:]
    y = torch.arange(rows) - (rows - 1) / 2
    x = torch.arange(columns) - (columns - 1) / 2
    total = images.sum(dim=(1, 2, 3))
    right, down = (images * x).sum(dim=(1, 2, 3)) / total, (images * y[:, None]).sum(dim=(1, 2, 3)) / total
    return torch.stack([right, down], dim=1)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    ct = torch.rand(COUNT, 3, 24, 32, generator=random)
    return (
        ct,
        torch.rand(COUNT, 1, 24, 32, generator=random),
        torch.randint(0, 4, (COUNT, 1, 24, 32), generator=random).to(torch.uint8),
    )


def test_without_settings_nothing_changes(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    assert all(torch.equal(before, after) for before, after in zip(batch, varied(*batch, NOTHING), strict=True))


def test_about_half_are_mirrored_left_and_right_in_all_three_alike(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    after = varied(*batch, BatchConfig(flip=True))
    mirrored = [torch.equal(after[0][n], batch[0][n].flip(-1)) for n in range(COUNT)]
    assert 0.2 * COUNT < sum(mirrored) < 0.8 * COUNT
    for n, flipped in enumerate(mirrored):
        for before, array in zip(batch, after, strict=True):
            assert torch.equal(array[n], before[n].flip(-1) if flipped else before[n])


GEOMETRIC = BatchConfig(flip=True, rotate_degrees=30.0, scale=0.2)


def test_ct_channels_pet_and_regions_move_together() -> None:
    spot = blob(rows=48, columns=64, right=9.0, down=-5.0, sigma=4.0)
    regions = (spot > 0.5).to(torch.uint8) * 3
    ct, pet, moved = varied(spot.repeat(1, 3, 1, 1), spot, regions, GEOMETRIC)
    assert not torch.equal(pet, spot)
    assert all(torch.equal(ct[:, channel : channel + 1], pet) for channel in range(3))
    assert moved.dtype == torch.uint8 and set(moved.unique().tolist()) == {0, 3}  # bits are never mixed
    assert (moved.bool() != (pet > 0.5)).float().mean() < 0.01  # but for the rim of the spot


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (48, 80), (80, 48)])
def test_a_rotation_is_a_rotation_whatever_the_shape_of_the_image(rows: int, columns: int) -> None:
    config = BatchConfig(flip=False, rotate_degrees=90.0)
    spot, other = (blob(rows=rows, columns=columns, right=right, down=4.0) for right in (12.0, -7.0))
    regions = torch.ones_like(spot, dtype=torch.uint8)
    first, second, _ = varied(spot, other, regions, config)
    one, two = centre_of(first), centre_of(second)
    torch.testing.assert_close(one.norm(dim=1), torch.full((COUNT,), math.hypot(12, 4)), rtol=0, atol=0.1)
    torch.testing.assert_close((one - two).norm(dim=1), torch.full((COUNT,), 19.0), rtol=0, atol=0.1)
    turned = torch.rad2deg(torch.atan2(one[:, 1], one[:, 0]) - math.atan2(4, 12))
    assert turned.abs().max() <= 91 and turned.std() > 30  # up to the configured limit, and each sample differently


def test_a_zoom_has_the_requested_size() -> None:
    spot = blob(rows=64, columns=64, right=14.0, down=0.0)
    after, _, _ = varied(spot, spot, torch.ones_like(spot, dtype=torch.uint8), BatchConfig(flip=False, scale=0.25))
    ratio = centre_of(after)[:, 0] / 14.0
    assert 0.75 <= ratio.min() < 0.9 and 1.1 < ratio.max() <= 1.25
    # the spot grows with it: area as the square
    torch.testing.assert_close(after.sum(dim=(1, 2, 3)) / spot[0].sum(), ratio**2, rtol=0.03, atol=0)


def test_pixels_rotated_in_from_outside_are_unmeasured_air() -> None:
    full = torch.ones(COUNT, 1, 32, 32)
    ct, pet, regions = varied(full, full, full.to(torch.uint8) * 3, BatchConfig(flip=False, rotate_degrees=45.0))
    outside = ct == 0
    assert outside.any() and not pet[outside].any() and not regions[outside].any()


def test_shift_and_noise_touch_the_ct_alone_and_keep_it_in_range(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    ct, pet, regions = varied(*batch, BatchConfig(flip=False, ct_shift=0.3, ct_noise=0.3))
    assert torch.equal(pet, batch[1]) and torch.equal(regions, batch[2])
    assert not torch.equal(ct, batch[0]) and ct.min() >= 0 and ct.max() <= 1


def test_a_shift_is_one_number_per_image() -> None:
    middle = torch.full((COUNT, 3, 4, 4), 0.5)
    ct, _, _ = varied(middle, middle[:, :1], middle[:, :1].to(torch.uint8), BatchConfig(flip=False, ct_shift=0.2))
    assert (ct.amax(dim=(1, 2, 3)) == ct.amin(dim=(1, 2, 3))).all()
    assert 0.3 <= ct.min() < 0.4 and 0.6 < ct.max() <= 0.7


def test_a_seed_repeats_and_another_does_not(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    config = BatchConfig(flip=True, rotate_degrees=15.0, scale=0.1, ct_shift=0.1, ct_noise=0.1)
    once, again = varied(*batch, config, seed=5), varied(*batch, config, seed=5)
    other = varied(*batch, config, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], other[0]) and not torch.equal(once[1], other[1])
