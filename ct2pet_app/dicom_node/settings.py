"""The settings of a DICOM node: a TOML file with its peers, rules, limits and TLS, checked once at start."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, IPvAnyNetwork

from ct2pet_app.dicom_node.condition import Condition, parse_condition
from ct2pet_app.errors import SettingsError
from ct2pet_app.validation import BoundaryModel, Flag, did_you_mean, validated
from lib.dicom.network.tls import TlsFiles

MAX_FILE_BYTES = 10**6
AET = "1 to 16 characters of ASCII, without backslash and control characters"
PRIVATE_ADDRESSES = ("127.0.0.1", "::1", "localhost")


def ae_title(text: str) -> str:
    """Return an AE title without leading and trailing spaces (PS3.5 6.2, AE); raise ValueError if it is none."""
    title = text.strip()
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError(f"expected {AET}")
    return title


AeTitle = Annotated[str, AfterValidator(ae_title), Field(description=AET)]
Port = Annotated[int, Field(ge=1, le=65535, description="a port from 1 to 65535")]
Name = Annotated[str, Field(min_length=1, max_length=64, description="a name of 1 to 64 characters")]
Seconds = Annotated[float, Field(ge=0.1, le=10**6, description="a number of seconds")]


class NodeSection(BoundaryModel):
    """``[node]``.

    Attributes:
        listen: The IP address to listen on; 0.0.0.0 for all.
        quiet_s: A series is complete when none of its instances has arrived for so long.
        incomplete_after_s: A series whose sender has more instances than have arrived is given up after so long.
        quota_gb: Of received series and waiting results on the disk.
        max_associations, max_instance_mb: Limits of the network.
        retry_s: Pause after the first failed transfer; each further one is twice as long, up to ten minutes.
        give_up_h: A result that its receiver does not take for so long has failed.
    """

    subject = "setting of [node]"

    listen: str = Field("127.0.0.1", description="an IP address of this computer")
    quiet_s: Seconds = 10.0
    incomplete_after_s: Seconds = 3600.0
    quota_gb: float = Field(100.0, gt=0, le=10**6, description="a number of GB above 0")
    max_associations: int = Field(10, ge=1, le=100, description="a whole number from 1 to 100")
    max_instance_mb: int = Field(1024, ge=1, le=2**14, description="a whole number of MB from 1 to 16384")
    retry_s: Seconds = 10.0
    give_up_h: float = Field(72.0, gt=0, le=10**5, description="a number of hours above 0")


class TlsSection(BoundaryModel):
    """``[tls]``: PEM files; relative to the folder of the settings' file."""

    subject = "setting of [tls]"

    certificate: str = Field(description="the PEM file of this node's certificate")
    key: str = Field(description="the PEM file of its private key")
    ca: str = Field(description="the PEM file of the authority that signs the peers' certificates")


class Peer(BoundaryModel):
    """``[[peer]]``.

    Attributes:
        may_send: Whether it may store CTs here.
        tls: Whether connections with it, in both directions, use TLS.
        addresses: IP networks from which it may connect; any if empty.
        confirm_count: Whether to query the sender by C-FIND for the number of instances of a series.
    """

    subject = "setting of a [[peer]]"

    name: Name
    aet: AeTitle
    host: str = Field(min_length=1, max_length=255, description="a host name or IP address")
    port: Port
    may_send: Flag = False
    tls: Flag = False
    addresses: tuple[IPvAnyNetwork, ...] = Field((), description='a list of IP networks, such as ["10.1.0.0/16"]')
    confirm_count: Flag = False

    def may_connect_from(self, address: str) -> bool:
        """Return whether this peer may connect from an IP address."""
        return not self.addresses or any(ipaddress.ip_address(address) in network for network in self.addresses)


class _RuleSection(BoundaryModel):
    """``[[rule]]``."""

    subject = "setting of a [[rule]]"

    when: str = Field(description="a condition, such as \"BodyPartExamined == 'CHEST'\"")
    model: Name
    send_to: Name


@dataclass(frozen=True)
class Rule:
    """Of a series for which the condition holds, `model` makes a PET, which is sent to the peer `send_to`."""

    when: Condition
    model: str
    send_to: str


@dataclass(frozen=True)
class PeersFile:
    """The settings of a DICOM node.

    Attributes:
        tls: None without TLS.
    """

    node: NodeSection
    tls: TlsFiles | None
    peers: tuple[Peer, ...]
    rules: tuple[Rule, ...]

    def peer(self, name: str) -> Peer | None:
        """Return the peer of a name; None if it has been removed from the file."""
        return next((peer for peer in self.peers if peer.name == name), None)

    def sender(self, aet: str) -> Peer | None:
        """Return the peer that may send under an AE title."""
        return next((peer for peer in self.peers if peer.aet == aet and peer.may_send), None)

    @property
    def is_open(self) -> bool:
        """Whether other computers can send without TLS and from any IP address."""
        anywhere = any(peer.may_send and not peer.addresses for peer in self.peers)
        return self.node.listen not in PRIVATE_ADDRESSES and self.tls is None and anywhere


def read_peers(path: Path) -> PeersFile:
    """Return the settings in a TOML file.

    Raises:
        SettingsError: The file cannot be read, or a setting is unknown, missing, invalid or contradicts another one.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SettingsError(f"{path.name}: larger than {MAX_FILE_BYTES} bytes")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path.name}: cannot be read ({error.strerror}); name the file of the DICOM peers"
        ) from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise SettingsError(f"{path.name}: no valid TOML ({error})") from error
    for key in content:
        if key not in ("node", "tls", "peer", "rule"):
            raise SettingsError(
                f"{path.name}: [{key[:40]}] is unknown; {did_you_mean(key, ['node', 'tls', 'peer', 'rule'])}"
            )
    node = _section(NodeSection, content.get("node", {}), f"{path.name} [node]")
    peers = tuple(_section(Peer, one, f"{path.name} [[peer]] {at}") for at, one in _numbered(content, "peer", path))
    rules = tuple(_rule(one, f"{path.name} [[rule]] {at}") for at, one in _numbered(content, "rule", path))
    tls = None
    if "tls" in content:
        section = _section(TlsSection, content["tls"], f"{path.name} [tls]")
        tls = TlsFiles(*(path.parent / name for name in (section.certificate, section.key, section.ca)))
    found = PeersFile(node, tls, peers, rules)
    _refuse_contradictions(found, path.name)
    return found


Section = TypeVar("Section", bound=BoundaryModel)


def _section(model: type[Section], values: Any, where: str) -> Section:
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: expected a table of settings")
    return validated(model, values, error=SettingsError, prefix=f"{where}: ")


def _numbered(content: Mapping[str, Any], key: str, path: Path) -> Sequence[tuple[int, Any]]:
    tables = content.get(key, [])
    if not isinstance(tables, list):
        raise SettingsError(f"{path.name}: write [[{key}]] with two brackets, once for each {key}")
    return list(enumerate(tables, start=1))


def _rule(values: Any, where: str) -> Rule:
    section = _section(_RuleSection, values, where)
    try:
        return Rule(parse_condition(section.when), section.model, section.send_to)
    except SettingsError as error:
        raise error.with_message(f"{where}: when: {error}") from error


def _refuse_contradictions(found: PeersFile, where: str) -> None:
    for what, names in (("name", [peer.name for peer in found.peers]), ("aet", [peer.aet for peer in found.peers])):
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise SettingsError(f"{where}: two peers have the {what} {repeated}; each needs its own")
    if not any(peer.may_send for peer in found.peers):
        raise SettingsError(f"{where}: no peer may send; write may_send = true in the [[peer]] that sends CTs")
    for at, rule in enumerate(found.rules, start=1):
        if found.peer(rule.send_to) is None:
            known = did_you_mean(rule.send_to, [peer.name for peer in found.peers])
            raise SettingsError(f"{where} [[rule]] {at}: no peer has the name {rule.send_to!r}; {known}")
    for peer in found.peers:
        if peer.tls and found.tls is None:
            raise SettingsError(f"{where}: peer {peer.name} uses TLS; add [tls] with certificate, key and ca")
        if peer.may_send and not peer.tls and found.tls is not None:
            raise SettingsError(
                f"{where}: with [tls], this node accepts TLS only; write tls = true in the [[peer]] {peer.name}, or "
                "remove [tls]"
            )
