"""Each rejection is one sentence: the key, the value, what was expected."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AfterValidator, BeforeValidator, Field

from ct2pet_app.errors import RequestError, SettingsError
from ct2pet_app.validation import (
    BoundaryModel,
    Flag,
    Number,
    PositiveNumber,
    did_you_mean,
    use_default_if_empty,
    validated,
)


def refuse_final(tag: str) -> str:
    if tag == "final":
        raise ValueError("final is taken; give another")
    return tag


class Example(BoundaryModel):
    subject = "parameter of an example"
    hint = ". See the guide"
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"client_id"})

    model: str = Field(description="the name of a model")
    kind: Literal["a", "b"] = Field("a", alias="sort", description="a or b")
    flag: Flag = False
    number: Annotated[Number | None, BeforeValidator(use_default_if_empty)] = Field(None, description="a number")
    size: PositiveNumber = 1
    tag: Annotated[str, AfterValidator(refuse_final)] = "x"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "model None: expected the name of a model"),
        ({"sort": "c"}, "sort 'c': expected a or b"),
        ({"flag": "perhaps"}, "flag 'perhaps': expected true or false"),
        ({"flag": None}, "flag None: expected true or false"),
        ({"number": -1}, "number -1: expected a number"),
        ({"number": True}, "number True: expected a number"),
        ({"number": 10**6}, "number 1000000: expected a number"),
        ({"number": "\u0663"}, r"number '\u0663': expected a number"),
        ({"size": 0}, "size 0: expected a whole number above 0"),
        ({"size": 2.5}, "size 2.5: expected a whole number above 0"),
        ({"tag": "final"}, "tag 'final': final is taken; give another"),
        ({"tag": 5}, "tag 5: "),
        ({"modle": "m"}, "'modle' is no parameter of an example; did you mean model? (known are model, sort, flag, "),
        ({"kind": "a"}, "'kind' is no parameter of an example; known are model, sort, flag, "),
        ({"sort": "c", "unknown": 1}, "'unknown' is no parameter of an example; known are model, sort, flag, "),
    ],
)
def test_a_rejection_names_the_key_the_value_and_what_was_expected(values: dict[str, Any], sentence: str) -> None:
    given = values if not values or "modle" in values else {"model": "m", **values}
    with pytest.raises(RequestError) as refused:
        validated(Example, given)
    assert str(refused.value).startswith(sentence)


def test_a_hint_follows_an_unknown_key() -> None:
    with pytest.raises(RequestError, match=r"known are model, sort, flag, number, size, tag\. See the guide$"):
        validated(Example, {"model": "m", "zzz": 1})


def test_what_was_left_out_or_empty_or_has_no_meaning_is_the_default() -> None:
    found = validated(Example, {"model": "m", "number": "", "client_id": {"any": "thing"}})
    assert found == validated(Example, {"model": "m", "number": None})
    assert (found.number, found.flag, found.kind) == (None, False, "a")


@pytest.mark.parametrize("flag", [True, "true", "True", "1", 1])
def test_a_flag_may_be_text_or_a_number(flag: object) -> None:
    assert validated(Example, {"model": "m", "flag": flag}).flag is True


def test_the_error_and_its_prefix_are_the_callers() -> None:
    with pytest.raises(SettingsError, match=r"^--conf size 'x': expected a whole number above 0$"):
        validated(Example, {"model": "m", "size": "x"}, error=SettingsError, prefix="--conf ")


@pytest.mark.parametrize(
    "value",
    ["a\ud800b", "a\0b", float("nan"), 10**5000, "9" * 100_000, json.loads("[" * 900 + "]" * 900)],
    ids=["surrogate", "NUL", "nan", "long number", "long text", "deep"],
)
def test_whatever_was_sent_the_sentence_is_short_and_can_be_sent(value: Any) -> None:
    for key in ("sort", "flag", "number", "size"):
        with pytest.raises(RequestError) as refused:
            validated(Example, {"model": "m", key: value})
        assert len(str(refused.value).encode()) < 200
        assert str(refused.value).isprintable()


def test_the_cause_holds_no_value_that_was_sent() -> None:
    with pytest.raises(RequestError) as refused:
        validated(Example, {"model": {"patient": "Doe^Jane"}})
    assert "Doe" not in str(refused.value.__cause__)


def test_similar_names_are_suggested() -> None:
    assert did_you_mean("newset", ["newest", "first"]) == "did you mean newest? (known are newest, first)"
    assert did_you_mean("zzz", ["newest", "first"]) == "known are newest, first"
