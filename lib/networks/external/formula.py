"""The formula that turns a network's output into SUV: a polynomial of x, parsed without executing anything."""

from __future__ import annotations

import ast
import math
import re

import numpy as np
from numpy.polynomial import Polynomial

from lib.errors import RecipeError
from lib.types import FloatArray

MAX_LENGTH = 200  # characters
MAX_DEGREE = 12
ALLOWED = re.compile(r"[0-9.eE+\-*/^()x\s]+")
IMPLIED_PRODUCT = re.compile(r"(?<=[0-9.)x])\s*(?=[x(])")  # 7x, 7 x, 2(x + 1), x(x + 1)
EXPECTED = "expected a polynomial of x from numbers and + - * / ^ ( ), such as 7*x^2"


def parse_formula(text: str) -> tuple[float, ...]:
    """Return the coefficients of a polynomial, the constant first.

    Division by x, powers of other than whole numbers, and degrees above 12 are refused.

    Raises:
        RecipeError: Not such a formula (code `invalid_formula`).
    """
    if len(text) > MAX_LENGTH or not ALLOWED.fullmatch(text):
        raise _invalid(text, f"it has other characters, or more than {MAX_LENGTH}")
    try:
        tree = ast.parse(IMPLIED_PRODUCT.sub("*", text.strip()).replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _invalid(text, "it cannot be parsed") from error
    coefficients = tuple(float(value) for value in _polynomial(tree.body, text).coef)
    if not all(map(math.isfinite, coefficients)):
        raise _invalid(text, "a coefficient is not finite")
    return coefficients


def evaluate(coefficients: tuple[float, ...], x: FloatArray) -> FloatArray:
    """Return the polynomial of `x`, same shape, float32."""
    value = np.full(x.shape, coefficients[-1], dtype=np.float32)
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + np.float32(coefficient)
    return value


def _polynomial(node: ast.expr, text: str) -> Polynomial:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Polynomial([_finite(number, text)])
        case ast.Name(id="x"):
            return Polynomial([0.0, 1.0])
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_polynomial(operand, text)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _polynomial(operand, text)
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(_polynomial(left, text), operator, _polynomial(right, text), text)
    raise _invalid(text, "it has another expression")


def _combined(left: Polynomial, operator: ast.operator, right: Polynomial, text: str) -> Polynomial:
    with np.errstate(over="ignore", invalid="ignore"):  # not finite: refused at the end
        match operator:
            case ast.Add():
                return (left + right).trim()
            case ast.Sub():
                return (left - right).trim()
            case ast.Mult() if left.degree() + right.degree() <= MAX_DEGREE:
                return (left * right).trim()
            case ast.Div() if right.degree() == 0 and right.coef[0] != 0:
                return left / float(right.coef[0])
            case ast.Pow() if right.degree() == 0 and float(right.coef[0]).is_integer():
                exponent = int(right.coef[0])
                if 0 <= exponent <= MAX_DEGREE and left.degree() * exponent <= MAX_DEGREE:
                    return (left**exponent).trim()
    raise _invalid(text, f"it divides by x or 0, its exponent is no whole number, or its degree is above {MAX_DEGREE}")


def _finite(number: float, text: str) -> float:
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise _invalid(text, "a number is too large")
    return value


def _invalid(text: str, reason: str) -> RecipeError:
    return RecipeError(f"formula {text[:80]!r}: {reason}; {EXPECTED}", code="invalid_formula")
