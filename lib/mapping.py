"""Build dataclasses from the plain values of TOML and JSON; unknown keys and wrong types are refused by name.

Standard library only: recipes, model cards and prepared arrays are also read on machines without pydantic.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

T = TypeVar("T")
MAX_SHOWN = 80  # characters of a value in an error


def from_mapping(kind: type[T], values: Any, *, where: str = "") -> T:
    """Return a dataclass built from a mapping of its fields.

    Lists become tuples, and integers become floats where the annotation says so. Annotations may be plain types, `Any`,
    literals, unions, tuples, mappings and other dataclasses.

    Args:
        kind: The dataclass.
        values: Field names and their plain values.
        where: Prefix of every key in an error, such as `network.`.

    Raises:
        ValueError: Not a mapping, an unknown or missing key, or a value of another type.
    """
    if not isinstance(values, Mapping):
        what = f"{where.rstrip('.')} is" if where else "expected"
        raise ValueError(f"{what} a table of keys and values, found {_shown(values)}")
    hints, required = _schema(typing.cast(Any, kind))
    for key in values:
        if key not in hints:
            raise ValueError(f"unknown key {where}{key}; {did_you_mean(str(key), hints)}")
    converted = {key: _converted(value, hints[key], f"{where}{key}") for key, value in values.items()}
    if missing := [f"{where}{name}" for name in required if name not in values]:
        raise ValueError(f"missing {', '.join(missing)}")
    return kind(**converted)


def dotted_keys(kind: type, prefix: str = "") -> list[str]:
    """Return the keys of a dataclass and of those nested in it, such as `network.depth`."""
    names: list[str] = []
    for name, expected in typing.get_type_hints(kind).items():
        nested = isinstance(expected, type) and dataclasses.is_dataclass(expected)
        names += dotted_keys(expected, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return names


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Return the most similar of the known keys, compared by their last part, or all of them, for an error message."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1)
    return f"did you mean {leaves[close[0]]}?" if close else f"known are {', '.join(known)}"


@functools.cache
def _schema(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the annotations of a dataclass, and its fields without a default."""
    absent = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = tuple(field.name for field in fields if field.default is absent and field.default_factory is absent)
    return typing.get_type_hints(kind), required


def _converted(value: Any, expected: Any, where: str) -> Any:
    kinds = typing.get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    if expected is Any or type(value) in kinds:
        return value
    for kind in kinds:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind) and (kind is expected or isinstance(value, Mapping)):
            return from_mapping(typing.cast(type, kind), value, where=f"{where}.")
        if origin is Literal and value in arguments:
            return value
        if origin is tuple and isinstance(value, list | tuple):
            inner = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
            if len(inner) == len(value):
                return tuple(_converted(part, of, where) for part, of in zip(value, inner, strict=True))
        if origin is Mapping and isinstance(value, Mapping):
            return {key: _converted(part, arguments[1], f"{where}.{key}") for key, part in value.items()}
    if float in kinds and type(value) is int:
        return _to_float(value)
    names = [_name(kind) for kind in kinds]
    raise ValueError(f"{where} is {' or '.join(names)}, found {_shown(value)}")


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{_shown(value)} is beyond the largest float") from error


def _name(kind: Any) -> str:
    if kind is types.NoneType:
        return "nothing"
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    return str(getattr(typing.get_origin(kind) or kind, "__name__", kind))


def _shown(value: object) -> str:
    return repr(value)[:MAX_SHOWN]
