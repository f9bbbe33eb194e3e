"""A model card as short lines for a reader."""

from __future__ import annotations

from collections.abc import Mapping

from lib.learning.model_card.card import ModelCard
from lib.learning.model_card.limits import ORIGINS


def card_facts(card: ModelCard) -> dict[str, str]:
    """Return what a model is and what it learnt from, by name; not its figures, standing and limits, which are long."""
    network, training, split = card.network, card.training, card.recipe.split
    facts = {
        "Name": card.name,
        "Made": f"{card.created}, ct2pet {card.versions.get('ct2pet', 'of unknown version')}",
        "Recipe": card.recipe.name,
        "Network": f"{network.stages} stage(s) of {network.base_channels} channels at the first of {network.depth} "
        f"levels, {network.context_slices} CT slices as input",
        "Weights": f"of epoch {card.epoch}",
        "Trained on": f"{len(training.patients)} patients, {training.pairs} pairs, {training.slices} slices "
        f"(data {training.digest})",
        "Chosen on": f"{len(training.validation_patients)} validation patients",
        "Set aside": f"{len(training.test_patients)} test patients" if training.split else "not told by this card",
        "Split": f"by {split.unit}, seed word {split.salt!r}"
        + ("" if training.split_by_hash else ", patients of before on the sides they had")
        + (f" (sides {training.split})" if training.split else ""),
    }
    alignment = card.recipe.alignment
    rules = [f"training slices off by more than {alignment.max_shift_mm:g} mm left out"] * (alignment.max_shift_mm > 0)
    rules += ["PETs moved onto their CTs"] * alignment.correct
    facts["Alignment"] = ", ".join(rules) or "PETs taken where they lie, however far off"
    for name, (one, _) in ORIGINS.items():
        if told := _counted(training.origins.get(name, {})):
            facts[f"{one[0].upper()}{one[1:]}"] = told
    return {**facts, "Intended use": card.intended_use}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word or 'not told'} ({count} patients)" for word, count in counts.items())
