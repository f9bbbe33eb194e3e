"""Warnings about a server that other computers can reach, and the locations allowed for secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct2pet_app.auth.bind_address import BindAddress, bind_address, exposure_warning, require_private_file
from ct2pet_app.errors import SettingsError

KEY = Path("/etc/ssl/private/server.key")


@pytest.mark.parametrize(
    ("arguments", "host", "key"),
    [
        ("start_server --app a --studies s", "0.0.0.0", None),
        ("start_server --app a --studies s -i 127.0.0.1", "127.0.0.1", None),
        (f"start_server --app a --studies s --host=::1 --ssl_keyfile {KEY}", "::1", KEY),
        ("-m pytest tests", "", None),
    ],
)
def test_the_bind_address_is_parsed_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, host: str, key: Path | None
) -> None:
    monkeypatch.setattr("sys.argv", ["monailabel", *arguments.split()])
    assert bind_address() == BindAddress(host, key)


@pytest.mark.parametrize(
    ("host", "key", "has_accounts", "expected"),
    [
        ("127.0.0.1", None, False, ""),
        ("::1", None, False, ""),
        ("localhost", None, False, ""),
        ("", None, False, ""),
        ("0.0.0.0", KEY, True, ""),
        ("0.0.0.0", KEY, False, "listens on 0.0.0.0 without accounts"),
        ("::", None, False, "anyone who can connect to this computer can read the studies and start trainings"),
        (
            "192.0.2.7",
            None,
            True,
            "without TLS: unless a proxy in front of it encrypts the traffic, passwords and images",
        ),
        (
            "server.example",
            None,
            False,
            "with --host 127.0.0.1 (or scripts/serve) it accepts connections from this computer only",
        ),
    ],
)
def test_an_exposed_server_warns_about_missing_accounts_or_tls(
    host: str, key: Path | None, has_accounts: bool, expected: str
) -> None:
    warning = exposure_warning(BindAddress(host, key), has_accounts=has_accounts)
    assert expected.lower() in warning.lower()
    assert bool(warning) == bool(expected)


@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_secret_in_a_served_folder_is_refused(tmp_path: Path, below: str) -> None:
    secret = tmp_path / "studies" / below / "secret"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.touch(mode=0o600)
    link = tmp_path / "link"
    link.symlink_to(secret)
    for path in (secret, link):
        with pytest.raises(
            SettingsError, match=r"the private key .* is inside .*studies, whose files this server sends"
        ):
            require_private_file(path, "the private key", (tmp_path / "models", tmp_path / "studies"))


def test_a_secret_that_every_local_user_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    secret.chmod(0o640)
    require_private_file(secret, "the private key", (tmp_path / "studies",))
    secret.chmod(0o644)
    with pytest.raises(SettingsError, match="every user of this computer can read the private key"):
        require_private_file(secret, "the private key", (tmp_path / "studies",))
