"""Limits of a model: those of every model, and those that follow from its training studies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from lib.pairing.prepared import PreparedPair

GENERAL_LIMITS = (
    "Uptake that is not visible on CT cannot be synthesised: such lesions are missed, and lesions may appear that do "
    "not exist. Valid only for scanners, protocols, tracers and body regions like those of the training studies."
)
ORIGINS = {
    "ct_scanner": ("CT scanner model", "CT scanner models"),
    "pet_scanner": ("PET scanner model", "PET scanner models"),
    "body_part": ("body part", "body parts"),
    "tracer": ("tracer", "tracers"),
}
MAX_NAMED = 5


def origins_of(pairs: Iterable[PreparedPair]) -> dict[str, dict[str, int]]:
    """Return the number of patients by scanner, body part and tracer; the empty string counts missing values."""
    patients: dict[str, dict[str, set[str]]] = {name: {} for name in ORIGINS}
    for pair in pairs:
        for name, found in patients.items():
            found.setdefault(getattr(pair, name), set()).add(pair.patient_id)
    return {name: {value: len(ids) for value, ids in sorted(found.items())} for name, found in patients.items()}


def limits_of(patients: int, origins: Mapping[str, Mapping[str, int]]) -> str:
    """Return the limits of a model trained on a number of patients of these origins."""
    described = [_describe(names, origins.get(name, {})) for name, names in ORIGINS.items()]
    known = [text for text in described if text]
    missing = [names[0] for text, names in zip(described, ORIGINS.values(), strict=True) if not text]
    trained_on = f"Trained on {patients} {'patient' if patients == 1 else 'patients'}"
    if known:
        trained_on += f": {'; '.join(known)}. Its accuracy on others is unknown"
    if missing:
        trained_on += f". Missing in the headers: {', '.join(missing)}"
    return f"{GENERAL_LIMITS} {trained_on}."


def _describe(names: tuple[str, str], counts: Mapping[str, int]) -> str:
    """Return the number of different values and the most frequent ones; empty if no header has a value."""
    known = Counter({value: count for value, count in counts.items() if value})
    if not known:
        return ""
    one, many = names
    named = [value if len(known) == 1 else f"{value}: {count}" for value, count in known.most_common(MAX_NAMED)]
    if len(known) > MAX_NAMED:
        named.append(f"{len(known) - MAX_NAMED} more")
    unknown = f", unknown for {counts['']}" if counts.get("") else ""
    return f"{f'one {one}' if len(known) == 1 else f'{len(known)} {many}'} ({', '.join(named)}{unknown})"
