"""scripts/serve: what it refuses before anything is installed or started, and what it starts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.processes import write_users

SERVE = Path(__file__).resolve().parents[1] / "scripts" / "serve"
Serve = Callable[..., "subprocess.CompletedProcess[str]"]


def serve(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SERVE, *words], capture_output=True, text=True, timeout=20)


@pytest.fixture
def started(tmp_path: Path) -> Serve:
    """Return a function that runs the script with a Python that says how it is called in place of serving."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    python = scripts / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@"\n')
    python.chmod(0o755)
    (scripts / "environment").write_text(f"ROOT=/app\nPYTHON={python}\n")
    shutil.copy(SERVE, scripts / "serve")

    def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [scripts / "serve", tmp_path, *words]
        env = {"PATH": "/usr/bin:/bin", **environment}
        return subprocess.run(command, capture_output=True, text=True, timeout=20, env=env)

    return run


@pytest.fixture
def tls(tmp_path: Path) -> list[str]:
    """The words that name a certificate and its key."""
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ct2pet -out server.crt -keyout server.key"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    return ["--tls-cert", str(tmp_path / "server.crt"), "--tls-key", str(tmp_path / "server.key")]


def test_help_says_that_it_answers_this_computer_only() -> None:
    answer = serve("--help")
    assert answer.returncode == 0
    assert "It answers this computer only" in answer.stdout
    assert "--expose --users FILE --tls-cert FILE --tls-key FILE" in answer.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give the folder that holds the DICOM studies"),
        (("no-such-folder",), "no-such-folder: no such folder; give the folder that holds"),
        ((".", "--host", "0.0.0.0"), "--host is not taken: the server answers this computer only, or everybody with"),
        ((".", "--prot", "80"), "unknown option --prot; known are --port, --users, --tls-cert, --tls-key, --expose,"),
        ((".", "--port", "http"), "--port needs a number"),
        ((".", "--conf", "models"), "--conf needs a key and a value"),
        ((".", "--conf", "users", "file"), "--conf users is said with --users FILE here"),
        ((".", ".."), "one folder of studies, found . and .."),
        ((".", "--users"), "--users needs a file"),
        ((".", "--users", ""), "--users needs a file"),
        ((".", "--tls-key", "no-such-file"), "--tls-key no-such-file: no such file, or it cannot be read"),
        ((".", "--tls-cert", __file__), "--tls-cert and --tls-key belong together"),
        (
            (".", "--expose"),
            "--expose opens this computer to the network and needs --tls-cert FILE --tls-key FILE --users",
        ),
        (
            (".", "--expose", "--users", __file__),
            "--expose opens this computer to the network and needs --tls-cert FILE",
        ),
        (
            (".", "--tls-cert", __file__, "--expose", "--tls-key", __file__),
            "--expose opens this computer to the network and needs --users FILE as well; where a proxy in front of it "
            "asks for passwords and encrypts, say --expose-without-protection",
        ),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_one(words: tuple[str, ...], said: str) -> None:
    answer = serve(*words)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"scripts/serve: {said}")


def test_without_a_word_it_answers_this_computer_only(started: Serve) -> None:
    answer = started()
    assert "--host 127.0.0.1 --port 8000" in answer.stdout
    assert "give http://127.0.0.1:8000 as the server" in answer.stderr
    assert "ssl" not in answer.stdout
    assert "users" not in answer.stdout


def test_with_accounts_and_tls_it_answers_the_network(started: Serve, tls: list[str], tmp_path: Path) -> None:
    users = write_users(tmp_path)
    answer = started("--expose", "--users", users, *tls, "--port", "8443")
    assert "--host 0.0.0.0 --port 8443" in answer.stdout
    assert f"--ssl_certfile {tls[1]} --ssl_keyfile {tls[3]} --conf users {users}" in answer.stdout
    assert "give https://" in answer.stderr


def test_keycloak_is_as_good_as_a_users_file(started: Serve, tls: list[str]) -> None:
    answer = started("--expose", *tls, MONAI_LABEL_AUTH_ENABLE="True")
    assert "--host 0.0.0.0" in answer.stdout
    assert started("--expose", *tls, MONAI_LABEL_AUTH_ENABLE="false").returncode == 2


def test_a_proxy_in_front_is_said_in_so_many_words(started: Serve) -> None:
    assert "--host 0.0.0.0" in started("--expose-without-protection").stdout


def test_a_certificate_and_a_foreign_key_are_refused_before_the_start(
    started: Serve, tls: list[str], tmp_path: Path
) -> None:
    made = "openssl genrsa -out other.key 2048"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    answer = started(*tls[:3], tmp_path / "other.key")
    assert answer.returncode == 2
    assert "are not a certificate and its private key (both as PEM)" in answer.stderr
    assert answer.stdout == ""
