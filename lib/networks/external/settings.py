"""How an imported network is fed, and how its output becomes SUV: part of its model card."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lib.errors import RecipeError
from lib.imaging.grid import MAX_GRID
from lib.networks.external.axes import Axes
from lib.networks.external.formula import evaluate, parse_formula
from lib.types import FloatArray

SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_TEXT = 20_000  # characters of a license or source
MAX_MULTIPLE = 512  # pixels


@dataclass(frozen=True)
class ExternalModel:
    """The settings of an imported network.

    Attributes:
        sha256: Of the imported ONNX file.
        opset: Version of ONNX's operators that the file uses.
        input_low, input_high: Input values of the low and the high end of the CT window, such as 0 and 1.
        output_low, output_high: Range to which the output is clipped before the formula; None for no limit.
        formula: SUVbw as a polynomial of the output x, such as `7*x^2`.
        input_axes, output_axes: Order of the axes, see `Axes`.
        output_slice: Index of the output slice that belongs to the middle context slice; None for the middle one.
        frame: Rows and columns to which each slice is padded with air or cropped about its centre; None for none.
        multiple: Rows and columns are padded with air to a multiple of this.
        source: Where the network comes from, such as an address and a citation.
        license: Name or text of its license.
        baseline_patients: Hashes of the patients on whom the baselines of the card were fitted.
    """

    sha256: str
    opset: int
    input_low: float = 0.0
    input_high: float = 1.0
    output_low: float | None = None
    output_high: float | None = None
    formula: str = "x"
    input_axes: str = "NSRC"
    output_axes: str = "NSRC"
    output_slice: int | None = None
    frame: tuple[int, int] | None = None
    multiple: int = 1
    source: str = ""
    license: str = ""
    baseline_patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise _invalid("sha256", "64 hexadecimal digits", self.sha256)
        if not (math.isfinite(self.input_low) and math.isfinite(self.input_high)) or self.input_low >= self.input_high:
            raise _invalid("input range", "a low and a higher value", (self.input_low, self.input_high))
        if not self._output_range[0] < self._output_range[1]:
            raise _invalid("output range", "a low and a higher value", self._output_range)
        if self.frame is not None and not all(16 <= length <= MAX_GRID for length in self.frame):
            raise _invalid("frame", f"rows and columns from 16 to {MAX_GRID}", self.frame)
        if not 1 <= self.multiple <= MAX_MULTIPLE:
            raise _invalid("multiple", f"1 to {MAX_MULTIPLE}", self.multiple)
        if self.output_slice is not None and self.output_slice < 0:
            raise _invalid("output slice", "a number from 0", self.output_slice)
        if max(len(self.source), len(self.license)) > MAX_TEXT:
            raise _invalid("source and license", f"at most {MAX_TEXT} characters each", "more")
        Axes(self.input_axes), Axes(self.output_axes), parse_formula(self.formula)  # raise where invalid

    def to_suv(self, output: FloatArray) -> FloatArray:
        """Return the SUVbw of an output, same shape."""
        return evaluate(self._coefficients, np.clip(output, *self._output_range))

    @cached_property
    def _coefficients(self) -> tuple[float, ...]:
        return parse_formula(self.formula)

    @property
    def _output_range(self) -> tuple[float, float]:
        low = -math.inf if self.output_low is None else self.output_low
        return low, math.inf if self.output_high is None else self.output_high

    def framed_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the rows and columns of the network's input for slices of this size."""
        rows, columns = self.frame or (rows, columns)
        return -(-rows // self.multiple) * self.multiple, -(-columns // self.multiple) * self.multiple


def _invalid(what: str, expected: str, found: object) -> RecipeError:
    return RecipeError(f"{what} of an imported network: expected {expected}, found {str(found)[:80]}")
