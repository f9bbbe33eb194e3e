#!/usr/bin/env python3
"""The command line of ct2pet: `python main.py COMMAND`; each command is a module of lib/cli/."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lib.cli.ablate import ablate
from lib.cli.application import create_app
from lib.cli.card import card
from lib.cli.download import download
from lib.cli.errors import run
from lib.cli.evaluate import evaluate
from lib.cli.exchange.export_bundle import export_bundle
from lib.cli.exchange.export_onnx import export_onnx
from lib.cli.exchange.import_onnx import import_onnx
from lib.cli.pair import pair
from lib.cli.phantom import phantom
from lib.cli.prepare import prepare
from lib.cli.scan import scan
from lib.cli.study import study
from lib.cli.synthesize import synthesize
from lib.cli.train import train
from lib.cli.users import users

COMMANDS = (
    scan, pair, phantom, download, prepare, train, card, synthesize, evaluate, study, ablate, import_onnx,
    export_onnx, export_bundle,
)  # fmt: skip
app = create_app(COMMANDS, groups={"users": users})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
