"""What could not be sent back is refused before it is stored; what was stored before is repaired."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import strategies as st

from ct2pet_app.errors import RequestError
from ct2pet_app.json_values import MAX_BYTES, MAX_DEPTH, MAX_VALUES, checked_json_object, sendable, stored_json_object

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20)
JSON_LIKE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": math.nan}, "nan is not a finite number"),
        ({"a": [1, {"b": -math.inf}]}, "-inf is not a finite number"),
        ({"a": "\ud800"}, "lone surrogates"),
        ({"a": "x\0"}, "control characters"),
        ({"\udfff": 1}, "key '\\\\udfff'"),
        ({"a\n": 1}, "without control characters"),
        ({"k" * 201: 1}, "at most 200 characters"),
        ({"a": 2**63}, "beyond 64 bits"),
        (nested(MAX_DEPTH + 1), "levels deep"),
        (nested(5000), "levels deep"),
        ({"a": [0] * MAX_VALUES}, "more than 4096 values"),
        ({"a": "x" * MAX_BYTES}, "at most 65536 are accepted"),
        ({"a": b"x"}, "bytes is no JSON value"),
        ([1], "is a JSON object"),
        ("\ud800", "is a JSON object"),
    ],
)
def test_what_cannot_be_sent_back_is_refused(value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        checked_json_object(value, "info")
    assert str(refused.value).isascii()


@pytest.mark.parametrize("value", ["a number", "in an object"])
def test_a_number_of_thousands_of_digits_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match=r"beyond 64 bits|is a JSON object"):
        checked_json_object(10**5000 if value == "a number" else {"a": 10**5000}, "info")


def test_what_can_be_sent_back_is_taken_as_it_is() -> None:
    value = {"text": "é\n\t😀", "numbers": [1, -0.5, True, None], "deep": nested(MAX_DEPTH - 1)}
    assert checked_json_object(value, "info") is value


@given(JSON_LIKE)
def test_whatever_is_repaired_can_be_sent(value: Any) -> None:
    assert json.loads(JSONResponse(sendable({"value": value})).body).keys() == {"value"}


@given(st.dictionaries(st.text(st.characters(codec=None), max_size=8), JSON_LIKE, max_size=4))
def test_whatever_is_taken_can_be_sent(value: dict[str, Any]) -> None:
    try:
        checked_json_object(value, "info")
    except RequestError:
        return
    JSONResponse(value)
    assert stored_json_object(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": ' * 100_000, b"\xff\xfe", None, "1" * 5000])
def test_what_is_no_object_reads_as_none(text: Any) -> None:
    assert stored_json_object(text) is None


def test_what_older_versions_stored_is_repaired() -> None:
    assert stored_json_object('{"a": NaN, "b\\ud800": ["\\udfff", Infinity]}') == {"a": None, "b�": ["�", None]}
