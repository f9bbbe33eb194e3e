#!/usr/bin/env python3
"""The command line of ct2pet: `python main.py COMMAND`; each command is a module of lib/cli/."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lib.cli.application import create_app
from lib.cli.commands.ablate import ablate
from lib.cli.commands.app_folder import app_folder
from lib.cli.commands.card import card
from lib.cli.commands.cohort import cohort
from lib.cli.commands.download import download
from lib.cli.commands.evaluate import evaluate
from lib.cli.commands.export_bundle import export_bundle
from lib.cli.commands.export_onnx import export_onnx
from lib.cli.commands.import_onnx import import_onnx
from lib.cli.commands.pair import pair
from lib.cli.commands.phantom import phantom
from lib.cli.commands.prepare import prepare
from lib.cli.commands.scan import scan
from lib.cli.commands.study import study
from lib.cli.commands.synthesize import synthesize
from lib.cli.commands.train import train
from lib.cli.commands.users import users
from lib.cli.errors import run
from lib.cli.garbage_collection import skip_last_collection

COMMANDS = (
    scan, pair, phantom, download, prepare, train, card, synthesize, evaluate, study, ablate, import_onnx,
    export_onnx, export_bundle, app_folder,
)  # fmt: skip
app = create_app(COMMANDS, groups={"cohort": cohort, "users": users})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run(app, arguments)


if __name__ == "__main__":
    exit_code = main()
    skip_last_collection()
    sys.exit(exit_code)
