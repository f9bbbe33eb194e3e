"""Who can reach this server, as far as its own command line tells."""

from __future__ import annotations

import ipaddress
import logging
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from monailabel.main import Main

from ct2pet_app.errors import SettingsError

GUIDE = "the user guide's section 'Accounts and TLS' says how"


@dataclass(frozen=True)
class Listening:
    """Where the server listens.

    Attributes:
        host: Address, or empty where it was not started by ``monailabel start_server``.
        private_key: Of TLS; None without TLS.
    """

    host: str
    private_key: Path | None

    @property
    def beyond_this_computer(self) -> bool:
        """Whether others can reach it."""
        if self.host in ("", "localhost"):
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True


def listening() -> Listening:
    """Return where this process listens, by MONAI Label's own reading of its command line."""
    try:
        words, _ = Main(loglevel=logging.INFO).args_parser().parse_known_args(sys.argv[1:])
    except SystemExit:  # not a command line of MONAI Label: a test, or another web server
        return Listening("", None)
    key = getattr(words, "ssl_keyfile", None)
    return Listening(str(getattr(words, "host", "")), Path(key).resolve() if key else None)


def warning(where: Listening, *, accounts: bool) -> str:
    """Return what to say loudly at start; empty where all is well."""
    if not where.beyond_this_computer:
        return ""
    if not accounts:
        return (
            f"WARNING: this server listens on {where.host} and asks nobody for a password: whoever reaches this "
            "computer can read the studies and start trainings. With --host 127.0.0.1 (or scripts/serve) it answers "
            f"this computer only; to open it to others, give it accounts and TLS: {GUIDE}"
        )
    if where.private_key is None:
        return (
            f"WARNING: this server listens on {where.host} without TLS: unless a proxy in front of it encrypts, "
            f"passwords and images cross the network for all to read; {GUIDE}"
        )
    return ""


def refuse_secrets_among_patients(secret: Path, what: str, folders: tuple[Path, ...]) -> None:
    """Refuse a secret that lies where the server looks for what it gives out, or that everybody can read.

    Raises:
        SettingsError: See above.
    """
    for folder in folders:
        if secret.resolve().is_relative_to(folder.resolve()):
            raise SettingsError(f"{what} {secret} lies in {folder}, which this server gives out; move it elsewhere")
    if secret.exists() and sys.platform != "win32" and secret.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise SettingsError(f"everybody on this computer can read {what} {secret}: chmod o= {secret}")
