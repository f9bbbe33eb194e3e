"""Documents name files that exist, and the user guide lists every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ct2pet_app.errors import SettingsError
from ct2pet_app.settings import AppSettings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("slicer/*.md")])
NAMES_CODE = ("SECURITY.md", "docs/threat-model.md", "docs/known-vulnerabilities.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:ct2pet_app|lib|scripts|tests|locks|docs)(?:/[\w.-]+)*/?)`")


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_have_targets(document: Path) -> None:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{target} in {document.name}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target} in {document.name}"


@pytest.mark.parametrize("document", NAMES_CODE)
def test_named_code_and_tests_exist(document: str) -> None:
    names = NAMED.findall((ROOT / document).read_text(encoding="utf-8"))
    assert [name for name in names if not (ROOT / name).exists()] == []
    if document == "docs/threat-model.md":
        assert len(names) > 30


def test_the_user_guide_lists_every_setting() -> None:
    with pytest.raises(SettingsError) as refused:
        AppSettings.from_conf({"0": "no such setting"}, app_folder=ROOT)
    known = re.findall(r"\w+", str(refused.value).partition("known are ")[2])
    guide = (ROOT / "docs/guide/server.md").read_text(encoding="utf-8")
    table = guide.partition("\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    assert len(known) > 10
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(known)
