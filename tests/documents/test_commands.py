"""Every command in the documents is run: here, by a test that `rules.py` names, or not, for the reason given there."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby, product
from pathlib import Path

import click
import numpy as np
import pytest
import typer

import main
from lib.metrics.calibration import Calibration
from tests.cli.runner import SETTINGS
from tests.ct2pet_app.constant_model import save_constant_model
from tests.documents.commands import DOCUMENTS, INSTRUCTIONS, ROOT, Command, commands_of, fences
from tests.documents.rules import ELSEWHERE, NOT_RUN
from tests.documents.world import World, make_world
from tests.server.processes import RunningServer, running_server

COMMANDS = [command for document in INSTRUCTIONS for command in commands_of(document)]
OF_CURL = re.compile(r"^curl .*http://127\.0\.0\.1:8000")
EXTRA = {  # small data, and a network of a few hundred weights
    "train": SETTINGS,
    "prepare": SETTINGS,
    "phantom": ["--slices", "2"],
    "users": ["--password-stdin"],
}
TINY = "pixel_mm=6.4;depth=1;context_slices=1;normalization=none;epochs=2;workers=0"
CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
PASSWORD = "seven geese on a lake"


def rule(command: Command, rules: tuple[tuple[str, str], ...]) -> str:
    """Return what the first rule that fits says; empty if none does."""
    return next((what for pattern, what in rules if re.search(pattern, command.text)), "")


HERE = [command for command in COMMANDS if not rule(command, ELSEWHERE) and not rule(command, NOT_RUN)]
BLOCKS = {block: list(members) for block, members in groupby(HERE, lambda one: one.block)}


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
    found.make_context(command.text, arguments)


@pytest.fixture(scope="module")
def world(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server on a copy of STUDIES, with two versions of each model."""
    studies = tmp_path_factory.mktemp("served")
    shutil.copytree(world.files["STUDIES"], studies, dirs_exist_ok=True)
    conf = {"models": "unet,cascade3", "width": "2", "set": TINY}
    folder = tmp_path_factory.mktemp("server")
    with running_server("ct2pet_app", studies, folder, **conf) as running:
        for name, stages, suv in product(("cascade3", "unet"), (3, 1), (1.0, 2.0)):
            if (name == "unet") == (stages == 1):
                model = save_constant_model(folder / "model.safetensors", suv, stages=stages, calibration=CURVE)
                response = running.request("PUT", f"/model/{name}", files={"file": model.read_bytes()})
                assert response.status_code == 200, response.text
        yield running


@pytest.mark.parametrize("block", [one for one in BLOCKS if not OF_CURL.match(BLOCKS[one][0].text)])
def test_commands_on_a_folder(
    block: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in BLOCKS[block]:
        world.provide(command.text, tmp_path)
        text = command.text.replace("/etc/ct2pet/", "")
        if "main.py" in text:
            arguments = shlex.split(text.partition("main.py ")[2])
            monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
            code = main.main([*arguments, *EXTRA.get(arguments[0], ())])
        else:
            environment = {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
            code = subprocess.run(["bash", "-c", text], env=environment, timeout=60, check=False).returncode
        assert code == 0, f"{command.place}: {command.text}\n{capfd.readouterr().err}"


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("block", [one for one in BLOCKS if OF_CURL.match(BLOCKS[one][0].text)])
def test_requests_to_a_server(
    block: str, world: World, server: RunningServer, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("curl")
    (tmp_path / ".curlrc").write_text("silent\nshow-error\nfail-with-body\nmax-time = 60\n")
    for command in BLOCKS[block]:
        world.provide(command.text, tmp_path)
        text = command.text.replace("http://127.0.0.1:8000", server.url).replace("PET_UID", world.pet_uid)
        text = text.replace("=UID", f"={world.ct_uid}").replace("[-12, 30, -420]", json.dumps(world.centre_mm))
        done = subprocess.run(
            ["bash", "-c", text], cwd=tmp_path, env={**os.environ, "CURL_HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command.place}: {text}\n{done.stdout}\n{done.stderr}"
        for task in ("train/", "scoring/", "batch/infer"):  # one of a kind at a time
            server.request("DELETE", f"/{task}")


SERVE = [one for one in COMMANDS if re.search(r"scripts/serve \S+( --(port|conf) .*)?$", one.text)]


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
