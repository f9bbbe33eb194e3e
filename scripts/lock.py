"""Split a resolution by uv into the lock files of locks/. Called by scripts/lock."""

import argparse
import re
from pathlib import Path

# The CUDA build of torch and what it alone requires
CUDA_ONLY = re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$")
# On PyPI as source only: their setup.py runs at installation. Any other package must come as a wheel.
SOURCE_ONLY = {"antlr4-python3-runtime", "iopath", "sam2", "timeloop"}
HEADER = "# Written by scripts/lock from {source}. Do not edit.\n"


def read_entries(path: Path) -> dict[str, str]:
    """Return the blocks of a lock written by uv (requirement, hashes, comment), by normalised name."""
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


def write_lock(path: Path, entries: dict[str, str], *, source: str, first_line: str = "") -> None:
    """Write entries in the order of their names, under a header that names their source."""
    body = "".join(entries[name] for name in sorted(entries))
    path.write_text(HEADER.format(source=source) + first_line + body, encoding="utf-8")


def split(all_path: Path, users_path: Path, out: Path) -> None:
    """Write the locks of users, of what contributors need as well, of source packages and of torch's CUDA build."""
    every, users = read_entries(all_path), read_entries(users_path)
    torch = {name: text for name, text in every.items() if CUDA_ONLY.match(name)}
    source = {name: text for name, text in every.items() if name in SOURCE_ONLY}
    apart = torch.keys() | source.keys()
    write_lock(out / "torch.txt", torch, source="requirements.txt (torch from PyPI, with CUDA)")
    write_lock(out / "source.txt", source, source="requirements.txt (packages without a wheel)")
    common = {name: text for name, text in every.items() if name in users and name not in apart}
    write_lock(out / "requirements.txt", common, source="requirements.txt")
    more = {name: text for name, text in every.items() if name not in users and name not in apart}
    write_lock(out / "requirements-dev.txt", more, source="requirements-dev.txt", first_line="-r requirements.txt\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path)
    parser.add_argument("--users", type=Path)
    parser.add_argument("--copy", type=Path)
    parser.add_argument("--source", default="")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.copy:
        write_lock(arguments.out, read_entries(arguments.copy), source=arguments.source)
    else:
        split(arguments.all, arguments.users, arguments.out)


if __name__ == "__main__":
    main()
