"""The commands in the documents: lines of `sh` blocks, and inline code that begins with a program and has arguments.

Decisions and the changelog are left out: they record what was chosen and changed, and tell nobody what to type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TUTORIAL = ROOT / "docs" / "tutorial.md"
INSTRUCTIONS = [
    path for path in DOCUMENTS if path.parent.name != "decisions" and path.name != "CHANGELOG.md" and path != TUTORIAL
]
FENCE = re.compile(r"^ *```(\w*)$")
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
COMMENT = re.compile(r"(^|\s+)# .*$")
# A program with arguments; a name alone, such as `main.py scan`, only says what is meant
PROGRAM = re.compile(
    r"(?:python |bash )?(?:main\.py|scripts/[\w-]+)(?: [a-z-]+){0,2} (?:[^a-z]|https:)\S*"
    r"|(?:tensorboard|torchrun|monailabel|kubectl|pip|mlflow) .*[-/.]\w|python -m \w|bash scripts/"
)


@dataclass(frozen=True)
class Command:
    """A command of a document.

    Attributes:
        place: Document and line.
        block: The same for all lines of a block, which are typed in one folder, one after another.
        text: On one line, without its comment.
    """

    place: str
    block: str
    text: str


def commands_of(document: Path) -> Iterator[Command]:
    """Yield the commands of a document in its order."""
    name = document.relative_to(ROOT).as_posix()
    language, block, begun = None, "", ""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if fence:
            language, block, begun = (fence[1], f"{name}:{number}", "") if language is None else (None, "", "")
        elif language == "sh":
            text = f"{begun} {COMMENT.sub('', line).strip()}".strip()
            if text.endswith("\\"):
                begun = text.removesuffix("\\").strip()
            elif text:
                yield Command(f"{name}:{number}", block, text)
                begun = ""
        elif language is None:
            for text in INLINE.findall(line):
                if PROGRAM.match(text):
                    yield Command(f"{name}:{number}", f"{name}:{number}", text)


def fences(document: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and language of each block."""
    is_open = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        fence = FENCE.match(line)
        if fence:
            is_open = not is_open
            if is_open:
                yield number, fence[1]
