"""Every command in the documents is run by a test, or not, for a reason: see `rules.py`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import typer

import main
from tests.documents.commands import DOCUMENTS, ROOT, Command, fences
from tests.documents.rules import COMMANDS, ELSEWHERE


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_block_says_what_it_contains(document: Path) -> None:
    assert [number for number, language in fences(document) if not language] == []


@pytest.mark.parametrize(("pattern", "test"), ELSEWHERE)
def test_the_test_that_runs_a_command_exists(pattern: str, test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE), test
    assert any(re.search(pattern, command.text) for command in COMMANDS), f"no document has {pattern}"


@pytest.mark.parametrize("command", [one for one in COMMANDS if "main.py " in one.text], ids=lambda one: one.place)
def test_every_option_of_a_command_exists(command: Command) -> None:
    """Also of the commands that another test runs with other options."""
    arguments = shlex.split(command.text.partition("main.py ")[2].replace(" ... ", " STUDIES --out RUN "))
    found = typer.main.get_command(main.app)
    while isinstance(found, click.Group):
        found = found.commands[arguments.pop(0)]
    assert found.make_context(command.text, arguments).command is found  # otherwise it raises a usage error


SERVE = [one for one in COMMANDS if re.search(r"scripts/serve [^-]\S+( --(port|conf) .*)?$", one.text)]


@pytest.mark.parametrize("command", SERVE, ids=lambda one: one.place)
def test_scripts_serve_gets_the_options_of_the_documents(command: Command, tmp_path: Path) -> None:
    """A fake Python prints what the real one would run."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "python").write_text('#!/bin/sh\necho "$@"\n')
    (scripts / "python").chmod(0o755)
    (scripts / "environment").write_text(f"ROOT=/app\nPYTHON={scripts / 'python'}\n")
    shutil.copy(ROOT / "scripts" / "serve", scripts)
    (tmp_path / "users.json").touch()
    for folder in ("STUDIES", "ct2pet-demo/studies", "studies"):
        (tmp_path / folder).mkdir(parents=True)
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", command.text.removesuffix("&")], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for option in re.findall(r"--(?:conf|port) [^-]+", command.text):
        assert option.replace('"', "").replace("$PWD", str(tmp_path)).strip() in done.stdout
