"""Hooks of MkDocs: pages that come from the code and from the repository's root, and links that hold in both places.

MkDocs runs this file in an environment of its own (`scripts/docs-environment`), without the packages of ct2pet. The
pages of the reference are therefore written by the Python of `.venv`, in processes of their own.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = "decisions/"  # in the navigation of mkdocs.yml: all of them
ROOT_PAGES = {name: f"project/{name.lower()}" for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
GENERATED = {
    "reference/commands.md": ("-m", "typer", "main.py", "utils", "docs", "--name", "python main.py"),
    "reference/rest.md": ("docs/site/rest.py",),
}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)((?:#[^)\s]*)?)(?=\))")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions in the navigation."""
    for section in config.nav or ():
        for pages in section.values():
            for entry in pages if isinstance(pages, list) else ():
                for title, target in entry.items():
                    if target == DECISIONS:
                        entry[title] = [f"{DECISIONS}index.md", *(f"{DECISIONS}{path.name}" for path in _decisions())]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    for uri, arguments in GENERATED.items():
        files.append(File.generated(config, uri, content=_output(arguments)))
    for name, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text(encoding="utf-8")))
    titles = [(path.name, TITLE.findall(path.read_text(encoding="utf-8"))[0]) for path in _decisions()]
    listing = "".join(f"- [{title}]({name})\n" for name, title in titles)
    files.append(File.generated(config, f"{DECISIONS}index.md", content=f"# Decisions\n\n{listing}"))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Point links between files of the repository to pages of the site."""
    of_root = {uri: name for name, uri in ROOT_PAGES.items()}
    uri = page.file.src_uri
    source = of_root.get(uri, f"docs/{uri}")

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        return posixpath.relpath(_uri_of(target), posixpath.dirname(uri) or ".") + link[2]

    return LINK.sub(in_site, markdown)


def _uri_of(path: str) -> str:
    """Return the source of the site that a path of the repository becomes."""
    if (ROOT / path).is_dir():
        path += "/README.md" if (ROOT / path / "README.md").exists() else "/index.md"
    return ROOT_PAGES.get(path, path.removeprefix("docs/"))


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs" / DECISIONS).glob("*.md"))


def _output(arguments: tuple[str, ...]) -> str:
    """Return what a program prints, run by the Python that has the packages of ct2pet.

    Raises:
        PluginError: The program failed; the message has the end of its errors.
    """
    python = os.environ.get("CT2PET_DOCS_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
    done = subprocess.run([python, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PluginError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    sys.stderr.write(done.stderr)
    return done.stdout
