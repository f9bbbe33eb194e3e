"""Summary of a model card as short lines of text."""

from __future__ import annotations

from collections.abc import Mapping

from lib.learning.model_card.card import ModelCard
from lib.learning.model_card.limits import ORIGINS


def card_facts(card: ModelCard) -> dict[str, str]:
    """Return the main facts of a model card by name; without metrics, baseline comparison and limits."""
    network, training, split = card.network, card.training, card.recipe.split
    stages = "1 stage" if network.stages == 1 else f"{network.stages} stages"
    facts: dict[str, str] = {
        "Name": card.name,
        "Created": f"{card.created}, ct2pet {card.versions.get('ct2pet', 'of unknown version')}",
        "Recipe": card.recipe.name,
        "Network": (f"mean of {network.members} networks, each " if network.members > 1 else "")
        + f"{stages}, {network.base_channels} channels at the first of {network.depth} "
        f"levels, {network.context_slices} CT slices as input",
        **_imported(card),
        "Epoch": str(card.epoch),
        "Training": f"{card.training_summary}, {training.pairs} pairs, {training.slices} slices "
        f"(data {training.digest})",
    }
    if not training.folds:
        facts["Validation"] = f"{len(training.validation_patients)} patients, for selecting the weights"
        facts["Test"] = (
            f"{len(training.test_patients)} patients, not used in training" if training.split else "not recorded"
        )
        facts["Split"] = (
            f"by {split.unit}, salt {split.salt!r}"
            + ("" if training.split_by_hash else ", some patients assigned earlier")
            + (f" (split {training.split})" if training.split else "")
        )
    else:
        facts["Cross-validation"] = (
            f"{len(card.fold_baselines)} folds, each network trained without {training.folds_left_out} of them; each "
            "patient judged by the networks not trained on them"
        )
        facts["Lookup weight"] = f"{card.lookup_weight:g} of the median SUV per HU, in tissue"
    limit_suv = card.recipe.synthesis.max_difference_suv
    facts["Runtime"] = f"any within {limit_suv:g} SUV of float32 inside the body, as estimated on fixed images"
    alignment = card.recipe.alignment
    rules = [f"training slices misaligned by more than {alignment.max_shift_mm:g} mm excluded"] * (
        alignment.max_shift_mm > 0
    )
    rules += ["misaligned PETs moved back"] * alignment.correct
    facts["Alignment"] = ", ".join(rules) or "misaligned slices included"
    for name, (one, _) in ORIGINS.items():
        if counted := _counted(training.origins.get(name, {})):
            facts[f"{one[0].upper()}{one[1:]}"] = counted
    if card.interval_coverage:
        facts["Intervals"] = card.interval_coverage
    return {**facts, "Intended use": card.intended_use}


def _imported(card: ModelCard) -> dict[str, str]:
    """Return the facts of an imported network; empty for others."""
    external = card.external
    if external is None:
        return {}
    windows, patients = card.recipe.windows, len(external.baseline_patients)
    facts = {
        "Imported": f"ONNX, opset {external.opset}, SHA-256 {external.sha256[:16]}",
        "Input": f"{windows.ct_low_hu:g} to {windows.ct_high_hu:g} HU as {external.input_low:g} to "
        f"{external.input_high:g}, axes {external.input_axes}",
        "Output": f"SUVbw = {external.formula}, axes {external.output_axes}",
        "Baselines": f"fitted on {patients} other patient{'s' * (patients != 1)}" if patients else "those of the card",
        "Source": external.source,
        "License": external.license.strip().partition("\n")[0],
    }
    return {name: fact for name, fact in facts.items() if fact}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value or 'unknown'} ({count} patients)" for value, count in counts.items())
