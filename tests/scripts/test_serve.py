"""scripts/serve: errors before anything is installed or started, and the command that it starts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.processes import free_port, write_users

SERVE = Path(__file__).resolve().parents[2] / "scripts" / "serve"
Serve = Callable[..., "subprocess.CompletedProcess[str]"]


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SERVE, *arguments], capture_output=True, text=True, timeout=20)


@pytest.fixture
def run_serve(tmp_path: Path) -> Serve:
    """Return a function that runs the script with a fake Python, which prints its arguments."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    python = scripts / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\necho "$@"\n')
    python.chmod(0o755)
    (scripts / "environment").write_text(f"ROOT=/app\nPYTHON={python}\n")
    shutil.copy(SERVE, scripts / "serve")

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [scripts / "serve", tmp_path, *arguments]
        env = {"PATH": "/usr/bin:/bin", **environment}
        return subprocess.run(command, capture_output=True, text=True, timeout=20, env=env)

    return run


@pytest.fixture
def tls(tmp_path: Path) -> list[str]:
    """The options for a certificate and its key."""
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ct2pet -out server.crt -keyout server.key"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    return ["--tls-cert", str(tmp_path / "server.crt"), "--tls-key", str(tmp_path / "server.key")]


def test_help_states_that_only_this_computer_can_connect() -> None:
    result = serve("--help")
    assert result.returncode == 0
    assert "accepts connections from this computer only" in result.stdout
    assert "--expose --users FILE --tls-cert FILE --tls-key FILE" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give the folder that holds the DICOM studies"),
        (("no-such-folder",), "no-such-folder: no such folder; give the folder that holds"),
        ((".", "--host", "0.0.0.0"), "--host is not supported: use --expose to accept connections from the network"),
        ((".", "--prot", "80"), "unknown option --prot; expected --port, --users, --tls-cert, --tls-key, --expose,"),
        ((".", "--port", "http"), "--port needs a number"),
        ((".", "--conf", "models"), "--conf needs a key and a value"),
        ((".", "--conf", "users", "file"), "--conf users is not supported: use --users FILE"),
        ((".", ".."), "expected one folder of studies, found . and .."),
        ((".", "--users"), "--users needs a file"),
        ((".", "--users", ""), "--users needs a file"),
        ((".", "--tls-key", "no-such-file"), "--tls-key no-such-file: no such file, or not readable"),
        ((".", "--tls-cert", __file__), "--tls-cert and --tls-key must be used together"),
        ((".", "--dicom-port", "11112"), "--dicom-port, --aet and --peers must be used together"),
        ((".", "--dicom-port", "dicom"), "--dicom-port needs a number"),
        ((".", "--peers", "no-such-file"), "--peers no-such-file: no such file, or not readable"),
        (
            ("https://pacs/dicom-web", "--dicom-port", "11112", "--aet", "A", "--peers", __file__),
            "--dicom-port stores the CTs that it receives in a folder of studies; with a PACS",
        ),
        ((".", "--conf", "dicom_peers", "file"), "--conf dicom_peers is not supported: use --dicom-port, --aet and"),
        (
            (".", "--expose"),
            "--expose accepts connections from the network and also requires --tls-cert FILE --tls-key FILE --users",
        ),
        (
            (".", "--expose", "--users", __file__),
            "--expose accepts connections from the network and also requires --tls-cert FILE",
        ),
        (
            (".", "--tls-cert", __file__, "--expose", "--tls-key", __file__),
            "--expose accepts connections from the network and also requires --users FILE; if a reverse proxy "
            "provides authentication and TLS, use --expose-without-protection",
        ),
    ],
)
def test_an_invalid_option_is_refused_with_advice(arguments: tuple[str, ...], message: str) -> None:
    result = serve(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"scripts/serve: {message}")


def test_by_default_only_this_computer_can_connect(run_serve: Serve) -> None:
    result = run_serve()
    assert "--host 127.0.0.1 --port 8000" in result.stdout
    assert "Server URL for Slicer: http://127.0.0.1:8000" in result.stderr
    assert "ssl" not in result.stdout
    assert "users" not in result.stdout


def test_with_accounts_and_tls_the_network_can_connect(run_serve: Serve, tls: list[str], tmp_path: Path) -> None:
    users = write_users(tmp_path)
    result = run_serve("--expose", "--users", users, *tls, "--port", "8443")
    assert "--host 0.0.0.0 --port 8443" in result.stdout
    assert f"--ssl_certfile {tls[1]} --ssl_keyfile {tls[3]} --conf users {users}" in result.stdout
    assert "Server URL for Slicer: https://" in result.stderr


def test_keycloak_replaces_a_users_file(run_serve: Serve, tls: list[str]) -> None:
    result = run_serve("--expose", *tls, MONAI_LABEL_AUTH_ENABLE="True")
    assert "--host 0.0.0.0" in result.stdout
    assert run_serve("--expose", *tls, MONAI_LABEL_AUTH_ENABLE="false").returncode == 2


def test_exposing_without_protection_requires_an_explicit_option(run_serve: Serve) -> None:
    assert "--host 0.0.0.0" in run_serve("--expose-without-protection").stdout


def test_a_dicom_node_runs_with_the_server(run_serve: Serve, tmp_path: Path) -> None:
    peers = tmp_path / "peers.toml"
    peers.write_text('[[peer]]\nname = "CT"\naet = "CT"\nhost = "ct"\nport = 104\nmay_send = true\n')
    node = ["--dicom-port", "11112", "--aet", "CT2PET", "--peers", peers]
    result = run_serve(*node, "--conf", "models_folder", "/models")
    assert f"/app/ct2pet_app/dicom_node/serve.py 11112 CT2PET {peers} {tmp_path} /models /" in result.stdout
    assert f"-m monailabel.main start_server --app /app/ct2pet_app --studies {tmp_path}" in result.stdout
    assert f"--conf dicom_peers {peers}" in result.stdout


def run_with_node(peers: Path, *server: str, aet: str = "CT2PET") -> subprocess.CompletedProcess[str]:
    """Run the program that runs a server and a DICOM node side by side."""
    program = SERVE.parents[1] / "ct2pet_app" / "dicom_node" / "serve.py"
    folder = str(peers.parent)
    command = [sys.executable, "-P", str(program), str(free_port()), aet, str(peers), folder, folder, *server]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("aet", "message"),
    [("CT2PET", "peers.toml [[peer]] 1: aet"), ("A\\B", "--aet 'A\\\\B': expected 1 to 16 characters of ASCII")],
)
def test_invalid_settings_of_a_dicom_node_are_refused_before_the_start(aet: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "peers.toml").write_text("[[peer]]\nname = 'CT'\n")
    result = run_with_node(tmp_path / "peers.toml", "false", aet=aet)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"scripts/serve: {message}"), result.stderr


def test_the_exit_code_of_the_server_ends_the_node_too(tmp_path: Path) -> None:
    peers = tmp_path / "peers.toml"
    peers.write_text('[[peer]]\nname = "CT"\naet = "CT"\nhost = "ct"\nport = 104\nmay_send = true\n')
    wait_for_node = f"until grep -q node_started {tmp_path}/dicom-node/audit.jsonl; do sleep 0.1; done; exit 3"
    assert run_with_node(peers, "sh", "-c", wait_for_node).returncode == 3
    assert "node_stopped" in (tmp_path / "dicom-node" / "audit.jsonl").read_text()


def test_a_certificate_with_another_key_is_refused_before_the_start(
    run_serve: Serve, tls: list[str], tmp_path: Path
) -> None:
    made = "openssl genrsa -out other.key 2048"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    result = run_serve(*tls[:3], tmp_path / "other.key")
    assert result.returncode == 2
    assert "are not a certificate and its private key (both in PEM format)" in result.stderr
    assert result.stdout == ""
