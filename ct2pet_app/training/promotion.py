"""Decide whether a newly trained model replaces the served one (docs/decisions/0016)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ct2pet_app.model_registry.model_cache import PublishedModel
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.model_registry.versions import Verdict, Version
from ct2pet_app.training.request import PublishRule
from lib.errors import CheckpointError
from lib.evaluation.promotion import compare_with_champion
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
    """Keep a trained model as a version, serve it if the rule allows it, and return it with its verdict.

    It can be killed at any point and called again: finished steps are not repeated.

    Args:
        origin: The training run that produced it.
        parent: The version whose weights the training started from.
        rule: `always` serves it regardless of its metrics, which are still computed.

    Raises:
        CheckpointError: The candidate is not a checkpoint of ct2pet, or of another model.
        OutputError: The disk is full; the served model is unchanged.
    """
    version = models.keep(name, candidate, origin=origin, parent=parent)
    while True:
        champion = _champion(name, models)
        if champion is not None and champion.version == version.number and version.verdict is not None:
            return version  # killed after it was served, before that was reported
        verdict = judge(
            name, version, champion, pairs, rule=rule, device=device, local_files=local_files, progress=progress
        )
        version = models.judged(name, version, verdict)
        if not verdict.published:
            return version
        with models.changing(name):
            if _checksum(_champion(name, models)) == _checksum(champion):  # otherwise another one was served meanwhile
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
    """Return whether a version may replace the served model (the champion), with a sentence that gives the reason."""
    challenger = Synthesizer.load(version.checkpoint, device=device)
    served = None if champion is None else _loaded(champion, device)
    contest = compare_with_champion(challenger, served, pairs, local_files=local_files, progress=progress)
    opponent = "the served model" if champion is None or champion.version is None else f"version {champion.version}"
    reason, number = contest.sentence(opponent), version.number
    if rule == "always":
        return Verdict(True, f"version {number} is served, as requested. {reason}", contest.as_json())
    if contest.is_promotable:
        return Verdict(True, f"version {number} is served. {reason}", contest.as_json())
    stays = f"version {number} is kept, but not served"
    if champion is not None:
        stays += f"; {opponent} stays"
    return Verdict(False, f"{stays}. {reason}", contest.as_json())


def _loaded(champion: PublishedModel, device: str) -> Synthesizer | None:
    try:
        return Synthesizer.load(champion.path, device=device)
    except CheckpointError as error:
        logger.warning("the served model cannot be used and is ignored in the comparison (%s)", error)
        return None


def _champion(name: str, models: ModelRegistry) -> PublishedModel | None:
    try:
        return models.published(name)
    except CheckpointError as error:
        logger.warning("%s: the served model cannot be used and is ignored in the comparison (%s)", name, error)
        return None


def _checksum(published: PublishedModel | None) -> str:
    return "" if published is None else published.checksum
