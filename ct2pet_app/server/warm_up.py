"""Work that begins with the server, so that the first requests do not wait for all of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ct2pet_app.model_registry.registry import ModelRegistry
from lib.errors import CT2PETError

logger = logging.getLogger(__name__)


def begin_in_background(work: Callable[..., None], *args: object, name: str) -> None:
    """Start work in a thread that ends with the process."""
    threading.Thread(target=work, args=args, name=name, daemon=True).start()


def scan_studies(listing: Callable[[], object]) -> None:
    """List the studies; an error is logged, and reported by the requests."""
    try:
        listing()
    except CT2PETError as error:
        logger.error("the studies cannot be scanned: %s", error)


def load_models(models: ModelRegistry) -> None:
    """Load every published model; an error is logged, and reported by the requests."""
    for name in models.names:
        try:
            if models.published(name) is not None:
                models.loaded(name)
        except CT2PETError as error:
            logger.error("%s cannot be loaded: %s", name, error)
