"""What a model is not good for: what holds for any, and what the studies it learnt from leave unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from lib.pairing.prepared import PreparedPair

GENERAL_LIMITS = (
    "Uptake that leaves no trace on CT cannot be synthesised: such lesions are missed, and lesions may be shown that "
    "do not exist. Valid at most for scanners, protocols, tracers and body regions like those of the training studies."
)
ORIGINS = {
    "ct_scanner": ("CT scanner model", "CT scanner models"),
    "pet_scanner": ("PET scanner model", "PET scanner models"),
    "body_part": ("body part", "body parts"),
    "tracer": ("tracer", "tracers"),
}
MAX_NAMED = 5


def origins_of(pairs: Iterable[PreparedPair]) -> dict[str, dict[str, int]]:
    """Return how many patients come from which scanner, body part and tracer; from none named under the empty word."""
    patients: dict[str, dict[str, set[str]]] = {name: {} for name in ORIGINS}
    for pair in pairs:
        for name, found in patients.items():
            found.setdefault(getattr(pair, name), set()).add(pair.patient_id)
    return {name: {word: len(whose) for word, whose in sorted(found.items())} for name, found in patients.items()}


def limits_of(patients: int, origins: Mapping[str, Mapping[str, int]]) -> str:
    """Return the limits of a model that learnt from so many patients of these origins."""
    told = [_told(names, origins.get(name, {})) for name, names in ORIGINS.items()]
    known = [words for words in told if words]
    silent = [names[0] for words, names in zip(told, ORIGINS.values(), strict=True) if not words]
    learnt = f"Learnt from {patients} {'patient' if patients == 1 else 'patients'}"
    if known:
        learnt += f": {'; '.join(known)}. Of others it knows nothing"
    if silent:
        learnt += f". The headers do not tell: {', '.join(silent)}"
    return f"{GENERAL_LIMITS} {learnt}."


def _told(names: tuple[str, str], counts: Mapping[str, int]) -> str:
    """Return how many of a kind there were, and which; empty where no header says so."""
    known = Counter({word: count for word, count in counts.items() if word})
    if not known:
        return ""
    one, many = names
    named = [word if len(known) == 1 else f"{word}: {count}" for word, count in known.most_common(MAX_NAMED)]
    if len(known) > MAX_NAMED:
        named.append(f"{len(known) - MAX_NAMED} more")
    unsaid = f", not told of {counts['']}" if counts.get("") else ""
    return f"{f'one {one}' if len(known) == 1 else f'{len(known)} {many}'} ({', '.join(named)}{unsaid})"
