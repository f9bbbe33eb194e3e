"""The loss in numbers small enough to be worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lib.learning.losses import cascade_loss, pixel_weights
from lib.learning.recipe import LossConfig, load_recipe
from lib.pairing.prepared import BODY, MEASURED

PET = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
FIRST = torch.tensor([[[[0.5, 1.0], [2.0, 1.0]]]])  # errors 0.5, 0, 0, -2
SECOND = torch.tensor([[[[0.0, 1.0], [7.0, 3.5]]]])  # errors 0, 0, 5, 0.5
EVERYWHERE = torch.full((1, 1, 2, 2), BODY | MEASURED, dtype=torch.uint8)
# inside the body; outside it; inside, but where the PET scanner did not measure; inside
REGIONS = torch.tensor([[[[BODY | MEASURED, MEASURED], [BODY, BODY | MEASURED]]]], dtype=torch.uint8)


def loss(*stages: Tensor, regions: Tensor = EVERYWHERE, config: LossConfig) -> float:
    return float(cascade_loss(list(stages), PET, regions, config=config))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LossConfig("mse", region="image"), (0.25 + 4) / 4),
        (LossConfig("l1", region="image"), (0.5 + 2) / 4),
        (LossConfig("smooth_l1", beta=1.0, region="image"), (0.5 * 0.25 + 1.5) / 4),
        (LossConfig("smooth_l1", beta=0.1, region="image"), (0.45 + 1.95) / 4),
    ],
)
def test_each_kind(config: LossConfig, expected: float) -> None:
    assert loss(FIRST, config=config) == pytest.approx(expected)


def test_inside_the_body_counts_1_outside_a_little_and_what_was_not_measured_not_at_all() -> None:
    config = LossConfig("l1", region="body", background_weight=0.1)
    torch.testing.assert_close(pixel_weights(REGIONS, PET, config=config), torch.tensor([[[[1.0, 0.1], [0.0, 1.0]]]]))
    assert loss(FIRST, regions=REGIONS, config=config) == pytest.approx((0.5 + 2) / 2.1)
    assert loss(SECOND, regions=REGIONS, config=config) == pytest.approx(0.5 / 2.1)  # the error of 5 is not seen


def test_uptake_counts_more_inside_the_body_only() -> None:
    config = LossConfig("l1", region="body", background_weight=0.1, uptake_weight=2.0)
    torch.testing.assert_close(
        pixel_weights(REGIONS, PET, config=config), torch.tensor([[[[1.0, 0.1], [0.0, 7.0]]]])
    )  # the last pixel's PET is 3
    assert loss(FIRST, regions=REGIONS, config=config) == pytest.approx((0.5 + 7 * 2) / 8.1)


def test_the_papers_loss_sees_every_pixel_alike() -> None:
    config = load_recipe("paper").loss
    assert loss(SECOND, regions=REGIONS, config=config) == pytest.approx((25 + 0.25) / 4)


@pytest.mark.parametrize(("supervise_stages", "expected"), [(True, (2.5 + 5.5) / 2 / 4), (False, 5.5 / 4)])
def test_every_stage_is_supervised_or_only_the_last(supervise_stages: bool, expected: float) -> None:
    config = LossConfig("l1", region="image", supervise_stages=supervise_stages)
    assert loss(FIRST, SECOND, config=config) == pytest.approx(expected)


def test_a_batch_in_which_nothing_was_measured_costs_nothing() -> None:
    nothing = torch.zeros_like(REGIONS)
    assert loss(FIRST, regions=nothing, config=LossConfig("l1", region="body")) == 0.0


def test_half_precision_predictions_are_compared_in_full() -> None:
    found = cascade_loss([FIRST.bfloat16()], PET, EVERYWHERE, config=LossConfig("mse", region="image"))
    assert found.dtype == torch.float32
