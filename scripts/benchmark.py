"""Measure speed and memory on this machine. See `scripts/benchmark --help`. No test depends on the results."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.errors import CT2PETError  # noqa: E402
from scripts.benchmarks.arguments import for_part, module_of, parse  # noqa: E402
from scripts.benchmarks.machine import describe_machine  # noqa: E402


def main() -> int:
    """Run the parts and return the exit status; with several, one that fails does not stop the others."""
    args = parse()
    failures = 0
    for part in args.parts:
        print(f"benchmark: {part}", file=sys.stderr, flush=True)
        try:
            result = measure(part, for_part(args, part))
        except CT2PETError as error:
            print(f"benchmark: {part}: {error}", file=sys.stderr)
            failures += 1
            continue
        print(json.dumps(result, indent=1), flush=True)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / f"{'gpu-' if args.gpu else ''}{part}.json").write_text(json.dumps(result, indent=1) + "\n")
    if args.out is not None and not args.gpu:
        # not at the top: a bare machine lacks matplotlib
        from scripts.benchmarks.page import write_page

        write_page(args.out)
    return 2 if failures else 0


def measure(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the result of a part with the description of the machine, taken before."""
    machine = describe_machine(args.device)
    module = importlib.import_module(module_of(part))  # only this part's: a bare machine cannot import all of them
    return {"part": part, "machine": machine, **module.measure(args).as_json()}


if __name__ == "__main__":
    sys.exit(main())
