"""The documentation as a site: it builds without a warning, its links hold, and it loads nothing from elsewhere."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path

import pytest
import typer

import main
from tests.conftest import missing
from tests.documents.commands import ROOT

LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?([^\"\s>]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as in CI: a broken link or anchor is an error."""
    if not (ROOT / ".venv-docs" / "installed").is_file():
        missing("docs", ".venv-docs is missing; create it with scripts/docs-environment")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [ROOT / "scripts" / "docs", "--out", folder], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_document_is_a_page(site: Path) -> None:
    documents = {
        path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")
    }
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {name.replace("README.html", "index.html") for name in documents} - pages == set()


def test_pages_load_nothing_from_other_servers(site: Path) -> None:
    loaded = {url for page in site.rglob("*.html") for url in LOADED.findall(page.read_text(encoding="utf-8"))}
    assert len(loaded) > 10
    assert [url for url in loaded if "://" in url or url.startswith("//")] == []


def test_the_search_index_is_part_of_the_site(site: Path) -> None:
    assert "best_factor" in (site / "search" / "search_index.json").read_text(encoding="utf-8")


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    page = text_of(site / "reference" / "commands.html")
    commands = dict(typer.main.get_command(main.app).commands)
    for group in ("cohort", "users"):
        commands |= {f"{group} {name}": command for name, command in commands.pop(group).commands.items()}
    for name, command in commands.items():
        section = page.partition(f"$ python main.py {name} ")[2].partition("$ python main.py ")[0]
        shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
        options = [option for parameter in shown for option in parameter.opts if option.startswith("--")]
        assert [option for option in options if option not in section] == [], name


def test_the_reference_has_every_endpoint_with_its_role(site: Path) -> None:
    page = text_of(site / "reference" / "rest.html")
    roles = dict(
        re.findall(r"^((?:GET|HEAD|PUT|POST|DELETE) /\S*?)¶?$(?:(?!^Role).*\n)+?^Role: (\w+)\.", page, re.MULTILINE)
    )
    required = {("GET /ct2pet/models", "user"), ("PUT /model/{model}", "admin"), ("POST /ct2pet/pairs", "annotator")}
    assert required <= roles.items()
    assert {"none"} == {role for name, role in roles.items() if name.startswith(("GET /auth/", "POST /auth/token"))} - {
        "user"
    }
