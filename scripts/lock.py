"""Split a resolution by uv into the lock files of locks/. Called by scripts/lock."""

import argparse
import re
from pathlib import Path

# The CUDA build of torch and what it alone requires
CUDA_ONLY = re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$")
# On PyPI as source only: their setup.py runs at installation. Any other package must come as a wheel.
SOURCE_ONLY = {"antlr4-python3-runtime", "iopath", "sam2", "timeloop"}
EXTRAS = ("download", "onnx", "ray")  # their packages must not overlap
PYTHONS = ("3.11", "3.12")  # resolved apart; what differs gets a marker
HEADER = "# Written by scripts/lock from {source}. Do not edit.\n"


def read_entries(path: Path) -> dict[str, str]:
    """Return the entries of a lock written by uv (requirement, hashes, comment), by normalised name."""
    entries: dict[str, str] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        start = re.match(r"([A-Za-z0-9._-]+)==", line)
        if start:
            name = re.sub(r"[-_.]+", "-", start[1]).lower()
            entries[name] = ""
        if name:
            entries[name] += line
    return entries


def merge(entries: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the entries of several versions of Python by name; one that is not of all of them gets a marker.

    Args:
        entries: By version of Python, as `read_entries` returns them. Comments of the first version are kept.
    """
    merged: dict[str, str] = {}
    for name in {name for found in entries.values() for name in found}:
        texts: dict[str, str] = {}
        versions: dict[str, list[str]] = {}
        for version, found in entries.items():
            if name in found:
                requirement = found[name].partition(" ")[0]
                texts.setdefault(requirement, found[name])
                versions.setdefault(requirement, []).append(version)
        merged[name] = ""
        for requirement, text in texts.items():
            marker = " or ".join(f'python_version == "{version}"' for version in versions[requirement])
            is_of_all = len(versions[requirement]) == len(entries)
            merged[name] += text if is_of_all else text.replace(requirement, f"{requirement} ; {marker}", 1)
    return merged


def write_lock(path: Path, entries: dict[str, str], *, source: str, first_line: str = "") -> None:
    """Write entries sorted by name, after a header that names their source."""
    body = "".join(entries[name] for name in sorted(entries))
    path.write_text(HEADER.format(source=source) + first_line + body, encoding="utf-8")


def split(work: Path, out: Path) -> None:
    """Write the locks for users, the extras, contributors, source packages and torch with CUDA.

    Args:
        work: Folder with a folder of uv's resolutions for each version of Python; all.txt includes those of the extras,
            which include users.txt.
        out: Folder for the locks.
    """

    def resolved(name: str) -> dict[str, str]:
        return merge({version: read_entries(work / version / f"{name}.txt") for version in PYTHONS})

    every, users = resolved("all"), resolved("users")
    torch = {name: text for name, text in every.items() if CUDA_ONLY.match(name)}
    source = {name: text for name, text in every.items() if name in SOURCE_ONLY}
    write_lock(out / "torch.txt", torch, source="requirements.txt (torch from PyPI, with CUDA)")
    write_lock(out / "source.txt", source, source="requirements.txt (packages without a wheel)")
    done = torch.keys() | source.keys()
    for file, names, bases in (
        ("requirements.txt", users.keys(), ()),
        *((f"requirements-{extra}.txt", resolved(extra).keys(), ("requirements.txt",)) for extra in EXTRAS),
        ("requirements-dev.txt", every.keys(), tuple(f"requirements-{extra}.txt" for extra in EXTRAS)),
    ):
        entries = {name: every[name] for name in names if name not in done}
        write_lock(out / file, entries, source=file, first_line="".join(f"-r {base}\n" for base in bases))
        done |= entries.keys()


def main() -> None:
    """Split the resolutions in --work, or copy one resolution and add a header."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--copy", type=Path)
    parser.add_argument("--source", default="")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.copy:
        write_lock(arguments.out, read_entries(arguments.copy), source=arguments.source)
    else:
        split(arguments.work, arguments.out)


if __name__ == "__main__":
    main()
