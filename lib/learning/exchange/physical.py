"""A cascade with its normalisation inside: HU in, SUVbw out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from lib.errors import TrainingError
from lib.imaging.normalize import Windows
from lib.learning.cross_validation.shrinkage import TISSUE_HU
from lib.learning.model_card.card import ModelCard
from lib.metrics.baselines import Baselines
from lib.networks.cascade import Cascade

OPSET = 17
TRACED_SIZE = (2, 96, 112)  # slices, rows and columns of the example; any other size can be processed
CHECKED_SIZES = ((1, 77, 90), (3, 64, 48))  # no multiple of what pooling needs; another number of slices
MAX_DIFFERENCE_SUV = 1e-3


class PhysicalCascade(nn.Module):
    """The last stage's PET of HU, with what `Synthesizer` does: windows, the mirror image, the median lookup."""

    def __init__(self, cascade: Cascade, card: ModelCard) -> None:
        super().__init__()
        self.cascade = cascade
        self._windows: Windows = card.recipe.windows
        self._flips = card.recipe.synthesis.flips
        self._weight = card.lookup_weight
        self._centre = card.network.context_slices // 2
        self._first_edge, self._step = 0.0, 1.0
        medians = torch.zeros(1)
        if self._weight and card.baselines is not None:
            baselines = Baselines.from_json(card.baselines)
            edges = baselines.hu_bin_edges
            self._first_edge, self._step = float(edges[0]), float(edges[1] - edges[0])  # bins of equal width
            medians = torch.from_numpy(baselines.median_suv_by_hu.copy())
        self.register_buffer("medians", medians, persistent=False)

    def forward(self, ct_hu: Tensor) -> Tensor:
        """Return SUVbw (N, 1, R, C) from context slices in HU (N, context_slices, R, C), any rows and columns."""
        windows = self._windows
        ct = (ct_hu.clamp(windows.ct_low_hu, windows.ct_high_hu) - windows.ct_low_hu) / (
            windows.ct_high_hu - windows.ct_low_hu
        )
        if windows.bits == 8:
            ct = torch.round(ct * 255) / 255
        pet = self.cascade(ct)[-1]
        if self._flips:
            pet = (pet + self.cascade(ct.flip(-1))[-1].flip(-1)) / 2
        pet = pet.clamp(min=0)
        if windows.pet_curve == "sqrt":
            pet = pet * pet
        pet = pet * windows.pet_high_suv
        if not self._weight:
            return pet
        centre = ct[:, self._centre : self._centre + 1]
        hu = centre * (windows.ct_high_hu - windows.ct_low_hu) + windows.ct_low_hu
        medians = self.get_buffer("medians")
        bins = torch.floor((hu - self._first_edge) / self._step).clamp(0, medians.shape[0] - 1).long()
        shrunk = (1 - self._weight) * pet + self._weight * medians[bins]
        return torch.where(hu > TISSUE_HU, shrunk, pet)


def example_hu(card: ModelCard, size: tuple[int, int, int]) -> Tensor:
    """Return random HU (N, context_slices, R, C) for N, R and C, the same each time."""
    slices, rows, columns = size
    random = torch.Generator().manual_seed(0)
    return torch.rand(slices, card.network.context_slices, rows, columns, generator=random) * 2000 - 1000


def require_equal(exported: Callable[[Tensor], Tensor], network: PhysicalCascade, card: ModelCard) -> float:
    """Return the largest difference between an exported network and its model for random HU.

    Returns:
        SUVbw; above 1 SUV relative to it.

    Raises:
        TrainingError: It is above 0.001 (code `export_differs`).
    """
    largest = 0.0
    for size in CHECKED_SIZES:
        ct_hu = example_hu(card, size)
        with torch.no_grad():
            expected = network(ct_hu)
            found = exported(ct_hu)
        largest = max(largest, float(((found - expected) / expected.clamp(min=1)).abs().max()))
    if not largest <= MAX_DIFFERENCE_SUV:
        raise TrainingError(
            f"the exported network differs from {card.name} by {largest:g} SUV, expected at most "
            f"{MAX_DIFFERENCE_SUV:g}; nothing was written",
            code="export_differs",
        )
    return largest


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Silence what torch says about tracing while a network is traced, with gradients off.

    Its warnings are about checks of shapes, which a trace leaves out, and about newer exporters.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Converting a tensor to a Python", Warning)  # TracerWarning
        warnings.filterwarnings("ignore", "ONNX export mode is set to TrainingMode.EVAL, but operator", UserWarning)
        yield
