"""Intervals of measured regions: the request fits the server's model, and its response is read."""

from __future__ import annotations

import json

import pytest
from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.client.infer_result import Interval, MeasuredRegion, intervals_body, read_intervals

from ct2pet_app.inference.region import IntervalRequest, interval_metadata
from ct2pet_app.validation import validated
from tests.learning.conftest import make_card
from tests.learning.known_intervals import known_intervals


def test_the_server_takes_the_request_and_its_response_is_read() -> None:
    body = intervals_body([MeasuredRegion(4.0, 1.0, 4.0), MeasuredRegion(900.0, -0.1, 2.0, is_lesion=True)], None)
    request = validated(IntervalRequest, json.loads(json.dumps(body)))
    assert [region.kind for region in request.regions] == ["region", "lesion"]
    assert request.regions[1].suv_mean == 0
    card = make_card(intervals=known_intervals(12).to_json())
    entries = [interval_metadata(region, card=card, level=request.level) for region in request.regions]
    first, _ = read_intervals(json.dumps({"regions": entries}).encode())
    assert (first.max.low, first.max.high) == pytest.approx((2.89, 5.29))
    assert (first.max.level, first.max.patients) == (0.9, 12)
    assert "calibrated on 12 patients" in first.mean.sentence


def test_an_interval_that_is_missing_has_no_ends() -> None:
    (found,) = read_intervals(b'{"regions": [{"interval": {"mean": {"low": null, "sentence": "Too few patients"}}}]}')
    assert found.mean == Interval(None, None, 0.0, 0, "Too few patients")
    assert found.max.sentence == ""


@pytest.mark.parametrize("content", [b"{}", b"[]", b"no"])
def test_an_invalid_response_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        read_intervals(content)
