"""Validate what crosses the server's boundary with pydantic, and turn every rejection into one sentence.

A field's `description` completes the sentence "expected ..." in an error, so each expectation is written once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticUseDefault

from ct2pet_app.errors import RequestError
from ct2pet_app.json_values import shown
from lib.errors import InputError

MAX_KEY_SHOWN = 40
Flag = Annotated[bool, Field(description="true or false")]
# str() first: True is no number
Number = Annotated[int, Field(ge=0, lt=10**6), BeforeValidator(str)]
PositiveNumber = Annotated[int, Field(gt=0, description="a whole number above 0"), BeforeValidator(str)]
STORED = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)  # of records that the server itself wrote

Model = TypeVar("Model", bound="BoundaryModel")


class BoundaryModel(BaseModel):
    """Immutable values from outside; unknown keys are refused.

    Attributes:
        subject: What a key is called in errors, such as `training setting`.
        ignored_keys: Keys that stock clients and MONAI Label always send and that have no meaning here.
        hint: Appended to the error about an unknown key.
        error_codes: Of an invalid value, by key; other keys have the error's own code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    subject: ClassVar[str]
    ignored_keys: ClassVar[frozenset[str]] = frozenset()
    hint: ClassVar[str] = ""
    error_codes: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def known_keys(cls) -> dict[str, str]:
        """Return the description of each key, under the name that clients use."""
        return {field.alias or name: field.description or "" for name, field in cls.model_fields.items()}


def validated(
    model: type[Model], values: Mapping[str, Any], *, error: type[InputError] = RequestError, prefix: str = ""
) -> Model:
    """Return the model of values from outside, without the keys that have no meaning.

    Args:
        model: What is expected.
        values: By key, as sent.
        error: Raised where they do not fit.
        prefix: Of the message, such as `--conf `.

    Raises:
        InputError: `error`, with a sentence that names the key, the value and what was expected.
    """
    try:
        return model.model_validate({key: values[key] for key in values if key not in model.ignored_keys})
    except ValidationError as invalid:
        # an unknown key is named first: it explains a missing one
        first = min(invalid.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
        key = str(first["loc"][0]) if first["loc"] else ""
        raise error(prefix + _sentence(first, values, model), code=model.error_codes.get(key)) from invalid


def use_default_if_empty(value: Any) -> Any:
    """Return a value; null and empty text count as an omitted field."""
    if value is None or value == "":
        raise PydanticUseDefault
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest known name, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    listed = ", ".join(names)
    return f"did you mean {close[0]}? (known are {listed})" if close else f"known are {listed}"


def _sentence(found: ErrorDetails, values: Mapping[str, Any], model: type[BoundaryModel]) -> str:
    reason = str(found.get("ctx", {}).get("error", ""))  # of a ValueError of ours
    if not found["loc"]:
        return reason
    key, known = str(found["loc"][0]), model.known_keys()
    if found["type"] == "extra_forbidden":
        name = key[:MAX_KEY_SHOWN]
        return f"{name!r} is no {model.subject}; {did_you_mean(name, known)}{model.hint}"
    return f"{key} {shown(values.get(key))}: {reason or f'expected {known[key]}'}"
