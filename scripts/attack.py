"""Attack the real server on this machine and measure what becomes of it. See `scripts/attack --help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from scripts.attacking.result import Result  # noqa: E402
from scripts.attacking.watch import MAX_BEYOND_MB, MAX_INFO_S  # noqa: E402

SUITES = {
    "memory": "small uploads that ask for gigabytes, one after another and eight at once; bodies of 600 MB",
    "pacs": "studies in a PACS that drips, lies, or never ends its responses",
    "downloads": "48 downloads given up",
    "clients": "16 clients for 60 s, who want what they may have",
    "long": "the synthesis of 300 slices of 512 x 512",
    "files": "2,000 mutated compressed files and 2,000 mutated volume files through the upload addresses",
    "strace": "the table of attacks, and what the server opens, writes, starts and connects to meanwhile",
    "kills": "200 kills of everything that writes",
}
LIBRARIES = ("fastapi", "uvicorn", "monailabel", "torch", "numpy", "pydicom", "SimpleITK", "nibabel")
LISTED = 30


def main() -> int:
    """Run the suites of the command line; return 0 where all are passed, else 1."""
    arguments = _arguments()
    console = Console(stderr=True)
    report: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), "suites": []}
    results = []
    with _folder(arguments.folder) as folder:
        for name in arguments.suites or SUITES:
            console.rule(name)
            result = run(
                name, folder / name, arguments, lambda line: console.print(line, markup=False, highlight=False)
            )
            results.append(result)
            report["suites"].append(result.as_json())
            if arguments.out is not None:  # after each: a suite takes minutes
                arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _show(results)
    return 0 if all(result.passed for result in results) else 1


def run(name: str, folder: Path, arguments: argparse.Namespace, said: Callable[[str], None]) -> Result:
    """Run one suite."""
    folder.mkdir(parents=True, exist_ok=True)
    # each brings its own libraries, and the PACS its own service
    if name == "memory":
        from scripts.attacking.memory import memory_suite

        return memory_suite(folder, said=said, memory_limit_gb=arguments.memory_limit_gb)
    if name == "pacs":
        from scripts.attacking.pacs import pacs_suite

        return pacs_suite(folder, said=said)
    if name == "downloads":
        from scripts.attacking.downloads import downloads_suite

        return downloads_suite(folder, said=said, **_given(count=arguments.downloads))
    if name == "clients":
        from scripts.attacking.clients import clients_suite

        return clients_suite(folder, said=said, **_given(clients=arguments.clients, seconds=arguments.seconds))
    if name == "long":
        from scripts.attacking.long import DEFAULT_NETWORK, long_suite

        network = DEFAULT_NETWORK if arguments.network == "default" else None
        return long_suite(folder, said=said, **_given(slices=arguments.slices, network=network))
    if name == "files":
        from scripts.attacking.files import files_suite

        return files_suite(folder, said=said, **_given(count=arguments.count, seed=arguments.seed))
    if name == "kills":
        from scripts.attacking.kills import kills_suite

        return kills_suite(said=said, **_given(kills=arguments.kills))
    from scripts.attacking.traced import strace_suite

    return strace_suite(folder, said=said)


def machine() -> dict[str, Any]:
    """Return what the figures depend on; no name and no path of this machine."""
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load_1_min_before": round(os.getloadavg()[0], 1),
        "versions": {library: version(library) for library in LIBRARIES},
        "limits": {"info_s": MAX_INFO_S, "memory_beyond_rest_mb": MAX_BEYOND_MB},
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given: the suites have the defaults."""
    return {name: value for name, value in options.items() if value is not None}


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="ct2pet-attack-") as folder:
        yield Path(folder)


def _show(results: list[Result]) -> None:
    console = Console()
    table = Table("suite", "verdict", "worst /info/ [s]", "memory beyond rest [MB]", "violations")
    for result in results:
        info, memory = (result.figures.get(key, "") for key in ("info_worst_s", "peak_beyond_rest_mb"))
        verdict = "passed" if result.passed else "FAILED"
        table.add_row(result.suite, verdict, str(info), str(memory), str(len(result.violations)))
    console.print(table)
    for result in results:
        for sentence in result.violations[:LISTED]:
            console.print(f"{result.suite}: {sentence}", markup=False, highlight=False, soft_wrap=True)


def _arguments() -> argparse.Namespace:
    listed = "\n".join(f"  {name:<10}{what}" for name, what in SUITES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/attack",
        description=f"Start the real server on this machine, attack it, and measure its memory and the answers to "
        f"/info/ meanwhile.\n\nsuites (default: all)\n{listed}\n\nExit status 1 where one fails: /info/ took "
        f"{MAX_INFO_S} s or more, memory rose {MAX_BEYOND_MB:.0f} MB or more beyond the server at rest, the server "
        "ended, or a response was neither a success nor a refusal in a sentence.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], metavar="SUITE")
    parser.add_argument("--count", type=int, help="mutants of each form (files; default 2000)")
    parser.add_argument("--seed", type=int, help="other mutants (files; default 0)")
    parser.add_argument("--kills", type=int, help="kills (kills; default 200)")
    parser.add_argument("--downloads", type=int, help="downloads given up (downloads; default 48)")
    parser.add_argument("--clients", type=int, help="clients at once (clients; default 16)")
    parser.add_argument("--seconds", type=float, help="how long they go on (clients; default 60)")
    parser.add_argument("--slices", type=int, help="slices of the phantom (long; default 300)")
    parser.add_argument(
        "--network", choices=["fast", "default"], default="fast",
        help="an untrained network of some hundred weights, or the default recipe's, which takes long (long)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-limit-gb", type=float, default=10.0, help="memory that the attacked server may map (default 10)"
    )
    parser.add_argument("--folder", type=Path, help="keep crafted files, logs and violations there")
    parser.add_argument("--out", type=Path, help="write the figures as JSON there, after each suite")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
