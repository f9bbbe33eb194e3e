"""An ensemble: cascades of one shape, each trained on other patients or from other weights, whose PETs are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lib.errors import RecipeError
from lib.networks.cascade import Cascade, NetworkConfig


class CascadeEnsemble(Cascade):
    """The mean over members of every stage's PET; used like a single cascade."""

    def __init__(self, config: NetworkConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.members = nn.ModuleList(Cascade(replace(config, members=1)) for _ in range(config.members))

    def forward(self, ct: Tensor) -> list[Tensor]:
        """Return every stage's mean PET; see `Cascade.forward`."""
        rows, columns = ct.shape[-2:]
        padded = self.padded(ct)  # the same for all members: a tenth of the time of ten small networks
        by_stage = zip(*(single.predict(padded) for single in members_of(self)), strict=True)
        return [torch.cat(pets, dim=1).mean(dim=1, keepdim=True)[..., :rows, :columns] for pets in by_stage]

    def bottleneck(self, ct: Tensor) -> Tensor:
        """Return the first member's features; see `Cascade.bottleneck`."""
        return member(self, 0).bottleneck(ct)


def make_cascade(config: NetworkConfig) -> Cascade:
    """Return a cascade of random weights, or an ensemble of them where the shape has several members."""
    return CascadeEnsemble(config) if config.members > 1 else Cascade(config)


def combine(cascades: Sequence[Cascade]) -> Cascade:
    """Return the ensemble of single cascades of one shape, sharing their weights; a single one is returned as it is.

    Raises:
        RecipeError: They have different shapes, or one is an ensemble.
    """
    configs = {cascade.config for cascade in cascades}
    if len(configs) != 1 or any(config.members > 1 for config in configs):
        raise RecipeError(f"an ensemble needs single cascades of one shape, found {sorted(map(str, configs))}")
    if len(cascades) == 1:
        return cascades[0]
    with torch.device("meta"):  # no memory for weights that are replaced at once
        ensemble = CascadeEnsemble(replace(cascades[0].config, members=len(cascades)))
    ensemble.members = nn.ModuleList(cascades)
    return ensemble.eval()


def members_of(cascade: Cascade) -> list[Cascade]:
    """Return the members of an ensemble, sharing their weights; a single cascade is its only member."""
    if not isinstance(cascade, CascadeEnsemble):
        return [cascade]
    return [single for single in cascade.members if isinstance(single, Cascade)]


def member(cascade: Cascade, index: int) -> Cascade:
    """Return one member of an ensemble, sharing its weights.

    Raises:
        RecipeError: There is no such member.
    """
    members = members_of(cascade)
    if not 0 <= index < len(members):
        raise RecipeError(f"the ensemble has members 0 to {len(members) - 1}, found {index}")
    return members[index]
