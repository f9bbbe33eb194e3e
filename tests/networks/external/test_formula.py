"""Formulas of imported networks: polynomials of x, nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from lib.errors import RecipeError
from lib.networks.external.formula import evaluate, parse_formula


@pytest.mark.parametrize(
    ("text", "at_3"),
    [
        ("x", 3),
        ("7*x^2", 63),
        ("7 x^2", 63),
        ("2(x+1)x", 24),
        ("-x^2", -9),
        ("(x + 1)^2 * 10 / 4 - 3", 37),
        ("2^3*x", 24),
        ("1e1x - .5", 29.5),
        ("x**2 + 5", 14),
    ],
)
def test_the_value_of_a_polynomial(text: str, at_3: float) -> None:
    value = evaluate(parse_formula(text), np.full((2, 1), 3, np.float32))
    assert value.shape == (2, 1) and value.dtype == np.float32
    np.testing.assert_allclose(value, at_3, rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "", "y", "x.real", "__import__('os')", "x()", "x if x", "1/x", "x/0", "x^x", "x^-1", "x^0.5", "x^13",
        "(x^12)*x", "9^9^9", "1e999", "1e300^9", "(" * 150 + "x", "x+" * 100 + "x", "2x3", "1j",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="expected a polynomial of x") as refused:
        parse_formula(text)
    assert refused.value.code == "invalid_formula"
