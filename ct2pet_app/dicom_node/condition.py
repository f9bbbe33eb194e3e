"""The conditions of rules, such as ``Modality == 'CT' and BodyPartExamined in ('CHEST', 'ABDOMEN')``.

Python parses the text into a syntax tree (`ast.parse`, which executes nothing). Every node of the tree has to be one of
the few that are translated here; there is no other way in which a condition could do something.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ct2pet_app.errors import SettingsError
from lib.dicom.attributes.values import parse_numbers
from lib.dicom.keywords import why_no_condition

MAX_CHARACTERS = 1000
MAX_NODES = 200  # of the syntax tree; it bounds the depth, too
GRAMMAR = (
    "expected comparisons of a DICOM keyword with a text or number (BodyPartExamined == 'CHEST', SliceThickness <= 3, "
    "'LUNG' in SeriesDescription, Manufacturer in ('SIEMENS', 'GE')), joined by and, or, not"
)

Values = Mapping[str, tuple[str, ...]]
Test = Callable[[Values], bool]
Literal = str | float


@dataclass(frozen=True)
class Condition:
    """A parsed condition.

    Attributes:
        text: As written.
        keywords: The attributes that it needs.
    """

    text: str
    keywords: frozenset[str]
    _test: Test

    def holds(self, values: Values) -> bool:
        """Return whether the condition holds for the values of the attributes, which may be absent, one or several.

        Text is compared without regard to case. A comparison holds if it holds for one of the values; `!=` and `not in`
        hold where `==` and `in` do not.
        """
        return self._test(values)


def parse_condition(text: str) -> Condition:
    """Return the parsed condition.

    Raises:
        SettingsError: It is none; the message says where and what is expected.
    """
    if len(text) > MAX_CHARACTERS:
        raise SettingsError(f"{len(text)} characters, expected at most {MAX_CHARACTERS}; write several rules")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        place = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise SettingsError(f"it cannot be parsed{place}; {GRAMMAR}") from error
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise SettingsError("it has too many parts; write several rules")
    keywords: set[str] = set()
    test = _translated(tree, keywords)
    return Condition(text, frozenset(keywords), test)


def _translated(node: ast.expr, keywords: set[str]) -> Test:
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            tests = [_translated(part, keywords) for part in parts]
            return lambda values: all(test(values) for test in tests)
        case ast.BoolOp(op=ast.Or(), values=parts):
            tests = [_translated(part, keywords) for part in parts]
            return lambda values: any(test(values) for test in tests)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            negated = _translated(part, keywords)
            return lambda values: not negated(values)
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            return _comparison(left, operator, right, keywords)
        case ast.Compare():
            raise SettingsError(f"{_shown(node)} compares more than two things; join two comparisons by and")
    raise SettingsError(f"{_shown(node)} is no comparison; {GRAMMAR}")


def _comparison(left: ast.expr, operator: ast.cmpop, right: ast.expr, keywords: set[str]) -> Test:
    if isinstance(operator, ast.NotEq | ast.NotIn):
        positive: ast.cmpop = ast.Eq() if isinstance(operator, ast.NotEq) else ast.In()
        test = _comparison(left, positive, right, keywords)
        return lambda values: not test(values)
    if isinstance(operator, ast.In) and isinstance(left, ast.Constant):
        keyword, part = _keyword(right, keywords), str(_literal(left)).casefold()
        return lambda values: any(part in value.casefold() for value in values.get(keyword, ()))
    keyword = _keyword(left, keywords)
    if isinstance(operator, ast.In):
        if not isinstance(right, ast.Tuple | ast.List) or not right.elts:
            raise SettingsError(f"{_shown(right)} is no list; expected one such as ('CHEST', 'ABDOMEN')")
        equal = [_compared(keyword, ast.Eq(), _literal(element)) for element in right.elts]
        return lambda values: any(test(values) for test in equal)
    return _compared(keyword, operator, _literal(right))


def _compared(keyword: str, operator: ast.cmpop, literal: Literal) -> Test:
    if isinstance(literal, str):
        if not isinstance(operator, ast.Eq):
            raise SettingsError(f"{keyword} is ordered against the text {literal!r}; expected ==, !=, in or a number")
        text = literal.strip().casefold()
        return lambda values: any(value.casefold() == text for value in values.get(keyword, ()))
    number = literal
    ordered: dict[type[ast.cmpop], Callable[[float], bool]] = {
        ast.Eq: lambda value: value == number,
        ast.Lt: lambda value: value < number,
        ast.LtE: lambda value: value <= number,
        ast.Gt: lambda value: value > number,
        ast.GtE: lambda value: value >= number,
    }
    if type(operator) not in ordered:
        raise SettingsError(f"{keyword}: no such comparison; {GRAMMAR}")
    test = ordered[type(operator)]
    return lambda values: any(test(value) for text in values.get(keyword, ()) for value in _numbers(text))


def _numbers(text: str) -> tuple[float, ...]:
    parsed = parse_numbers(text)
    return () if parsed is None else parsed.values


def _keyword(node: ast.expr, keywords: set[str]) -> str:
    if not isinstance(node, ast.Name):
        raise SettingsError(f"{_shown(node)} stands where a DICOM keyword is expected, such as BodyPartExamined")
    reason = why_no_condition(node.id)
    if reason:
        raise SettingsError(f"{node.id[:64]}: {reason}")
    keywords.add(node.id)
    return node.id


def _literal(node: ast.expr) -> Literal:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(number)) | ast.Constant(value=float(number)):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            return -float(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float(number))):
            return -number
    raise SettingsError(f"{_shown(node)} stands where a text in quotes or a number is expected")


def _shown(node: ast.expr) -> str:
    return repr(ast.unparse(node)[:60])
