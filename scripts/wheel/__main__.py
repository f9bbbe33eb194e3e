"""Run the command line of an installed ct2pet: `ct2pet COMMAND` or `python -m ct2pet COMMAND`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> int:
    """Run one command and return its exit code."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    code: int = import_module("main").main()
    return code


if __name__ == "__main__":
    sys.exit(main())
