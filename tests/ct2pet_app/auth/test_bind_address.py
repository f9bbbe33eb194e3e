"""What is said of a server that others can reach, and where secrets may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct2pet_app.auth.bind_address import Listening, listening, refuse_secrets_among_patients, warning
from ct2pet_app.errors import SettingsError

KEY = Path("/etc/ssl/private/server.key")


@pytest.mark.parametrize(
    ("words", "host", "key"),
    [
        ("start_server --app a --studies s", "0.0.0.0", None),
        ("start_server --app a --studies s -i 127.0.0.1", "127.0.0.1", None),
        (f"start_server --app a --studies s --host=::1 --ssl_keyfile {KEY}", "::1", KEY),
        ("-m pytest tests", "", None),
    ],
)
def test_the_command_line_tells_where_the_server_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, host: str, key: Path | None
) -> None:
    monkeypatch.setattr("sys.argv", ["monailabel", *words.split()])
    assert listening() == Listening(host, key)


@pytest.mark.parametrize(
    ("host", "key", "accounts", "said"),
    [
        ("127.0.0.1", None, False, ""),
        ("::1", None, False, ""),
        ("localhost", None, False, ""),
        ("", None, False, ""),
        ("0.0.0.0", KEY, True, ""),
        ("0.0.0.0", KEY, False, "listens on 0.0.0.0 and asks nobody for a password"),
        ("::", None, False, "whoever reaches this computer can read the studies and start trainings"),
        ("192.0.2.7", None, True, "without TLS: unless a proxy in front of it encrypts, passwords and images"),
        ("server.example", None, False, "with --host 127.0.0.1 (or scripts/serve) it answers this computer only"),
    ],
)
def test_who_opens_a_server_is_told_what_it_lacks(host: str, key: Path | None, accounts: bool, said: str) -> None:
    told = warning(Listening(host, key), accounts=accounts)
    assert said.lower() in told.lower()
    assert bool(told) == bool(said)


@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_secret_among_the_studies_is_refused(tmp_path: Path, below: str) -> None:
    secret = tmp_path / "studies" / below / "secret"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.touch(mode=0o600)
    elsewhere = tmp_path / "link"
    elsewhere.symlink_to(secret)
    for path in (secret, elsewhere):
        with pytest.raises(SettingsError, match=r"the private key .* lies in .*studies, which this server gives out"):
            refuse_secrets_among_patients(path, "the private key", (tmp_path / "models", tmp_path / "studies"))


def test_a_secret_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    secret.chmod(0o640)
    refuse_secrets_among_patients(secret, "the private key", (tmp_path / "studies",))
    secret.chmod(0o644)
    with pytest.raises(SettingsError, match="everybody on this computer can read the private key"):
        refuse_secrets_among_patients(secret, "the private key", (tmp_path / "studies",))
