"""The peers file: defaults, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct2pet_app.dicom_node.settings import PeersFile, read_peers
from ct2pet_app.errors import SettingsError

SCANNER = '[[peer]]\nname = "CT"\naet = "SCANNER"\nhost = "10.1.2.3"\nport = 104\nmay_send = true\n'
PACS = '[[peer]]\nname = "PACS"\naet = "ARCHIVE"\nhost = "pacs"\nport = 104\n'
RULE = '[[rule]]\nwhen = "BodyPartExamined == \'CHEST\'"\nmodel = "cascade3"\nsend_to = "PACS"\n'


def read(folder: Path, text: str) -> PeersFile:
    path = folder / "peers.toml"
    path.write_text(text)
    return read_peers(path)


def test_a_complete_file_is_read(tmp_path: Path) -> None:
    settings = read(tmp_path, SCANNER + PACS + RULE)
    assert settings.node.quiet_s == 10.0
    assert settings.node.listen == "127.0.0.1"
    assert [rule.when.text for rule in settings.rules] == ["BodyPartExamined == 'CHEST'"]
    sender = settings.sender("SCANNER")
    assert sender is not None and sender.name == "CT"
    assert settings.sender("ARCHIVE") is None  # may not send
    assert not settings.is_open


def test_a_peer_may_be_limited_to_networks(tmp_path: Path) -> None:
    text = '[node]\nlisten = "0.0.0.0"\n' + SCANNER
    assert read(tmp_path, text).is_open
    settings = read(tmp_path, text + 'addresses = ["10.1.0.0/16", "192.0.2.7"]\n')
    (peer,) = settings.peers
    assert [peer.may_connect_from(address) for address in ("10.1.9.9", "192.0.2.7", "192.0.2.8")] == [True, True, False]
    assert not settings.is_open


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[node", "no valid TOML"),
        ("[peers]", "[peers] is unknown; did you mean peer?"),
        ("[peer]\nname = 'a'", "write [[peer]] with two brackets"),
        ("node = 3", "[node]: expected a table of settings"),
        (SCANNER + "[node]\nquiet = 3\n", "[node]: 'quiet' is no setting of [node]; did you mean quiet_s?"),
        (SCANNER + "[node]\nquota_gb = -1\n", "[node]: quota_gb -1: expected a number of GB above 0"),
        (SCANNER.replace("104", "0"), "[[peer]] 1: port 0: expected a port from 1 to 65535"),
        (SCANNER.replace("SCANNER", "A" * 17), "[[peer]] 1: aet"),
        (SCANNER.replace('"SCANNER"', '"A\\\\B"'), "expected 1 to 16 characters of ASCII, without backslash"),
        (SCANNER + 'addresses = ["10.1.0.300"]\n', 'expected a list of IP networks, such as ["10.1.0.0/16"]'),
        (SCANNER + SCANNER, "two peers have the name CT"),
        (SCANNER + SCANNER.replace('"CT"', '"B"'), "two peers have the aet SCANNER"),
        (PACS, "no peer may send"),
        (SCANNER + RULE, "[[rule]] 1: no peer has the name 'PACS'"),
        (SCANNER + PACS + RULE.replace("==", "="), "[[rule]] 1: when: it cannot be parsed"),
        (SCANNER + PACS + RULE.replace("model", "modle"), "[[rule]] 1: 'modle' is no setting of a [[rule]]"),
        (SCANNER + "tls = true\n", "peer CT uses TLS; add [tls] with certificate, key and ca"),
        (SCANNER + '[tls]\ncertificate = "a"\nkey = "b"\nca = "c"\n', "this node accepts TLS only; write tls = true"),
        (SCANNER + '[tls]\ncertificate = "a"\nkey = "b"\n', "[tls]: ca None: expected the PEM file of the authority"),
    ],
)
def test_each_mistake_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, text)
    assert message in str(refused.value)
    assert str(refused.value).startswith("peers.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read"):
        read_peers(tmp_path / "none.toml")
