"""Attack the real server on this machine and measure its memory and latency. See `scripts/attack --help`."""

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
from scripts.attacking.watch import MAX_ABOVE_IDLE_MB, MAX_INFO_S  # noqa: E402

SUITES = {
    "memory": "small uploads that take gigabytes of memory, single and eight at once; bodies of 600 MB",
    "pacs": "studies in a PACS whose responses are slow, invalid or endless",
    "downloads": "48 aborted downloads",
    "clients": "16 clients with valid requests for 60 s",
    "long": "the synthesis of 300 slices of 512 x 512",
    "files": "2,000 mutated compressed files and 2,000 mutated volume files, sent to the upload endpoints",
    "strace": "the table of attacks, with all files, programs and connections of the server",
    "kills": "200 kills of processes that write files",
}
LIBRARIES = ("fastapi", "uvicorn", "monailabel", "torch", "numpy", "pydicom", "SimpleITK", "nibabel")
LISTED = 30


def main() -> int:
    """Run the selected suites; return 0 if all pass, else 1."""
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
            if arguments.out is not None:  # after each suite, because a suite takes minutes
                arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _show(results)
    return 0 if all(result.passed for result in results) else 1


def run(name: str, folder: Path, arguments: argparse.Namespace, notify: Callable[[str], None]) -> Result:
    """Run one suite."""
    folder.mkdir(parents=True, exist_ok=True)
    # imported here because each suite needs other libraries
    if name == "memory":
        from scripts.attacking.memory import memory_suite

        return memory_suite(folder, notify=notify, memory_limit_gb=arguments.memory_limit_gb)
    if name == "pacs":
        from scripts.attacking.pacs import pacs_suite

        return pacs_suite(folder, notify=notify)
    if name == "downloads":
        from scripts.attacking.downloads import downloads_suite

        return downloads_suite(folder, notify=notify, **_given(count=arguments.downloads))
    if name == "clients":
        from scripts.attacking.clients import clients_suite

        return clients_suite(folder, notify=notify, **_given(clients=arguments.clients, seconds=arguments.seconds))
    if name == "long":
        from scripts.attacking.long import DEFAULT_NETWORK, long_suite

        network = DEFAULT_NETWORK if arguments.network == "default" else None
        return long_suite(folder, notify=notify, **_given(slices=arguments.slices, network=network))
    if name == "files":
        from scripts.attacking.files import files_suite

        return files_suite(folder, notify=notify, **_given(count=arguments.count, seed=arguments.seed))
    if name == "kills":
        from scripts.attacking.kills import kills_suite

        return kills_suite(notify=notify, **_given(kills=arguments.kills))
    from scripts.attacking.traced import strace_suite

    return strace_suite(folder, notify=notify)


def machine() -> dict[str, Any]:
    """Return the hardware and versions that the metrics depend on, without names or paths of this machine."""
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load_1_min_before": round(os.getloadavg()[0], 1),
        "versions": {library: version(library) for library in LIBRARIES},
        "limits": {"info_s": MAX_INFO_S, "memory_beyond_rest_mb": MAX_ABOVE_IDLE_MB},
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are set; the suites define the defaults."""
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
    table = Table("suite", "verdict", "worst /info/ [s]", "memory above idle [MB]", "violations")
    for result in results:
        info, memory = (result.metrics.get(key, "") for key in ("info_worst_s", "peak_beyond_rest_mb"))
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
        description=f"Start the real server on this machine, attack it, and measure its memory and the latency of "
        f"/info/.\n\nsuites (default: all)\n{listed}\n\nThe exit status is 1 if a suite fails: /info/ took "
        f"{MAX_INFO_S} s or more, memory rose {MAX_ABOVE_IDLE_MB:.0f} MB or more above the idle server, the server "
        "ended, or a response was neither a success nor an error with a sentence.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], metavar="SUITE")
    parser.add_argument("--count", type=int, help="number of mutants of each form (files; default 2000)")
    parser.add_argument("--seed", type=int, help="seed of the mutants (files; default 0)")
    parser.add_argument("--kills", type=int, help="number of kills (kills; default 200)")
    parser.add_argument("--downloads", type=int, help="number of aborted downloads (downloads; default 48)")
    parser.add_argument("--clients", type=int, help="number of concurrent clients (clients; default 16)")
    parser.add_argument("--seconds", type=float, help="duration (clients; default 60)")
    parser.add_argument("--slices", type=int, help="number of slices of the phantom (long; default 300)")
    parser.add_argument(
        "--network", choices=["fast", "default"], default="fast",
        help="an untrained network of some hundred weights, or the default recipe's, which is slow (long)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-limit-gb", type=float, default=10.0, help="virtual address space of the server (default 10)"
    )
    parser.add_argument("--folder", type=Path, help="keep uploads, logs and files of violations in this folder")
    parser.add_argument("--out", type=Path, help="write the metrics as JSON to this file, after each suite")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
