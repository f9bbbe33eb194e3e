"""Which computers can reach this server, according to its own command line."""

from __future__ import annotations

import ipaddress
import logging
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from monailabel.main import Main

from ct2pet_app.errors import SettingsError

GUIDE = "see 'Accounts and TLS' in the user guide"


@dataclass(frozen=True)
class BindAddress:
    """The address on which the server listens.

    Attributes:
        host: Address or name; empty if the server was not started by ``monailabel start_server``.
        private_key: Of TLS; None without TLS.
    """

    host: str
    private_key: Path | None

    @property
    def is_exposed(self) -> bool:
        """Whether other computers can reach it."""
        if self.host in ("", "localhost"):
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


def bind_address() -> BindAddress:
    """Return where this process listens, as MONAI Label parses its command line."""
    try:
        arguments, _ = Main(loglevel=logging.INFO).args_parser().parse_known_args(sys.argv[1:])
    except SystemExit:  # not a command line of MONAI Label: a test, or another web server
        return BindAddress("", None)
    key = getattr(arguments, "ssl_keyfile", None)
    return BindAddress(str(getattr(arguments, "host", "")), Path(key).resolve() if key else None)


def exposure_warning(address: BindAddress, *, has_accounts: bool) -> str:
    """Return a warning about missing accounts or TLS; empty if the server needs neither."""
    if not address.is_exposed:
        return ""
    if not has_accounts:
        return (
            f"WARNING: this server listens on {address.host} without accounts: anyone who can connect to this computer "
            "can read the studies and start trainings. With --host 127.0.0.1 (or scripts/serve) it accepts connections "
            f"from this computer only; before you open it to others, set up accounts and TLS: {GUIDE}"
        )
    if address.private_key is None:
        return (
            f"WARNING: this server listens on {address.host} without TLS: unless a proxy in front of it encrypts the "
            f"traffic, passwords and images cross the network in plain text; {GUIDE}"
        )
    return ""


def require_private_file(secret: Path, description: str, served_folders: tuple[Path, ...]) -> None:
    """Refuse a secret inside a folder whose files the server sends to clients, or that every local user can read.

    Raises:
        SettingsError: See above.
    """
    for folder in served_folders:
        if secret.resolve().is_relative_to(folder.resolve()):
            raise SettingsError(
                f"{description} {secret} is inside {folder}, whose files this server sends to clients; move it"
            )
    if secret.exists() and sys.platform != "win32" and secret.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise SettingsError(f"every user of this computer can read {description} {secret}: chmod o= {secret}")
