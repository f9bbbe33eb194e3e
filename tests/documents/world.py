"""What a document calls STUDIES, RUN or `ct.zip`, by these names in the folder where its commands run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path


def provide(command: str, folder: Path, files: Mapping[str, Path]) -> None:
    """Copy what a command reads into a folder, unless it is there, such as the output of an earlier command.

    Args:
        command: The command; what follows `--out` is written by it.
        folder: Where it runs.
        files: Files and folders by their names in the documents.
    """
    words = re.split(r"[\s=@'\"]", re.sub(r"--out \S+", "", command))
    for name in {word.partition("/")[0] for word in words} & files.keys():
        source, target = files[name], folder / name
        if not target.exists():
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
