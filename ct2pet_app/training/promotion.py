"""Whether a freshly trained model takes the place of the one that is served. The rule: docs/decisions/0016."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ct2pet_app.model_registry.model_cache import PublishedModel
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.model_registry.versions import Verdict, Version
from ct2pet_app.training.request import PublishRule
from lib.errors import CheckpointError
from lib.evaluation.promotion import hold_contest
from lib.pairing.pairs import PairedSeries
from lib.synthesis.synthesizer import Synthesizer
from lib.types import LocalFiles, Progress, already_local, no_progress

logger = logging.getLogger(__name__)


def publish_if_better(
    name: str,
    candidate: Path,
    models: ModelRegistry,
    pairs: Sequence[PairedSeries],
    *,
    origin: str,
    parent: int | None = None,
    rule: PublishRule = "if_not_worse",
    device: str = "auto",
    local_files: LocalFiles = already_local,
    progress: Progress = no_progress,
) -> Version:
    """Keep a trained model as a version, serve it if it may be, and return it with its verdict.

    May be killed at any line and asked again: what was done is not done twice.

    Args:
        origin: The training run it comes from.
        parent: The version whose weights the training began with.
        rule: `always` serves it whatever its figures; they are taken all the same.

    Raises:
        CheckpointError: The candidate is none of ours, or of another model.
        OutputError: The disk is full; what was served stays.
    """
    version = models.keep(name, candidate, origin=origin, parent=parent)
    while True:
        champion = _champion(name, models)
        if champion is not None and champion.version == version.number and version.verdict is not None:
            return version  # killed after it was served, before that was told
        verdict = judge(
            name, version, champion, pairs, rule=rule, device=device, local_files=local_files, progress=progress
        )
        version = models.judged(name, version, verdict)
        if not verdict.published:
            return version
        if _checksum(_champion(name, models)) == _checksum(champion):  # else somebody served another one meanwhile
            models.serve(name, version.number, action="published", why=verdict.verdict)
            return version


def judge(
    name: str,
    version: Version,
    champion: PublishedModel | None,
    pairs: Sequence[PairedSeries],
    *,
    rule: PublishRule = "if_not_worse",
    device: str = "auto",
    local_files: LocalFiles = already_local,
    progress: Progress = no_progress,
) -> Verdict:
    """Return whether a version may take the champion's place, and why, in words that end with its standing."""
    challenger = Synthesizer.load(version.checkpoint, device=device)
    beside = None if champion is None else _loaded(champion, device)
    contest = hold_contest(challenger, beside, pairs, local_files=local_files, progress=progress)
    whom = "what is served" if champion is None or champion.version is None else f"version {champion.version}"
    told, number = contest.sentence(whom), version.number
    if rule == "always":
        return Verdict(True, f"version {number} is served, as asked for. {told}", contest.as_json())
    if contest.won:
        return Verdict(True, f"version {number} is served. {told}", contest.as_json())
    stays = f"version {number} is kept, and not served"
    if champion is not None:
        stays += f"; {whom} stays"
    return Verdict(False, f"{stays}. {told}", contest.as_json())


def _loaded(champion: PublishedModel, device: str) -> Synthesizer | None:
    try:
        return Synthesizer.load(champion.path, device=device)
    except CheckpointError as error:
        logger.warning("what is served cannot be used, so nobody defends its place (%s)", error)
        return None


def _champion(name: str, models: ModelRegistry) -> PublishedModel | None:
    try:
        return models.published(name)
    except CheckpointError as error:
        logger.warning("%s: what is served cannot be used, so nobody defends its place (%s)", name, error)
        return None


def _checksum(published: PublishedModel | None) -> str:
    return "" if published is None else published.checksum
