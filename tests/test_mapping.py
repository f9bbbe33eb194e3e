"""Dataclasses from the plain values of TOML and JSON: what is converted, and how each error names its key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest

from lib.mapping import did_you_mean, dotted_keys, from_mapping


@dataclass(frozen=True)
class Inner:
    depth: int = 4
    kind: Literal["l1", "mse"] = "l1"


@dataclass(frozen=True)
class Outer:
    name: str
    spacing: tuple[float, float]
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    size: float | None = None
    count: float | int | None = None
    names: tuple[str, ...] = ()
    table: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)


NEEDED = {"name": "a", "spacing": [1, 2.5]}


def test_lists_become_tuples_and_integers_floats_where_floats_are_expected() -> None:
    found = from_mapping(
        Outer, {**NEEDED, "size": 3, "count": 3, "table": {"a": {"b": 1, "c": None}}, "free": {"x": [1]}}
    )
    assert found == Outer("a", (1.0, 2.5), size=3.0, count=3, table={"a": {"b": 1.0, "c": None}}, free={"x": [1]})
    assert [type(value) for value in (*found.spacing, found.size, found.count)] == [float, float, float, int]
    assert type(found.table["a"]["b"]) is float


def test_there_and_back_through_json_is_the_same() -> None:
    outer = Outer("a", (1.0, 2.0), Inner(2, "mse"), Inner(1), 0.5, 2, ("x", "y"), {"a": {"b": None}}, {"c": 1})
    assert from_mapping(Outer, json.loads(json.dumps(asdict(outer)))) == outer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nam": "b"}, "unknown key nam; did you mean name?"),
        ({"inner": {"dept": 1}}, "unknown key inner.dept; did you mean depth?"),
        ({"maybe": {"depth": "1"}}, "maybe.depth is int, found '1'"),
        ({"maybe": 5}, "maybe is Inner or nothing, found 5"),
        ({"inner": 5}, "inner is a table of keys and values, found 5"),
        ({"inner": {"kind": "l2"}}, "inner.kind is one of l1, mse, found 'l2'"),
        ({"name": None}, "name is str, found None"),
        ({"size": True}, "size is float or nothing, found True"),
        ({"size": 10**400}, "is beyond the largest float"),
        ({"spacing": [1]}, "spacing is tuple, found [1]"),
        ({"names": "abc"}, "names is tuple, found 'abc'"),
        ({"names": ["a", 1]}, "names is str, found 1"),
        ({"table": {"a": {"b": "1"}}}, "table.a.b is float or nothing, found '1'"),
        ({"table": []}, "table is Mapping, found []"),
        ({"name": ["x" * 1000]}, f"name is str, found ['{'x' * 78}"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        from_mapping(Outer, {**NEEDED, **change})
    assert str(refused.value).endswith(message)


def test_every_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"^missing of\.name, of\.spacing$"):
        from_mapping(Outer, {}, where="of.")


@pytest.mark.parametrize("value", [None, 5, [], "text"])
def test_only_a_mapping_becomes_a_dataclass(value: object) -> None:
    with pytest.raises(ValueError, match="expected a table of keys and values, found"):
        from_mapping(Outer, value)


def test_keys_are_dotted_and_similar_ones_suggested() -> None:
    assert dotted_keys(Outer)[:4] == ["name", "spacing", "inner.depth", "inner.kind"]
    assert did_you_mean("outer.dpth", dotted_keys(Outer)) == "did you mean inner.depth?"
    assert did_you_mean("zzz", ["a", "b"]) == "known are a, b"
