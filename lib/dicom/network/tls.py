"""TLS contexts for both directions: each side shows a certificate that the hospital's authority has signed."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from lib.errors import InputError


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of this node.

    Attributes:
        certificate, key: Of this node.
        authority: Certificates that sign those of the peers.
    """

    certificate: Path
    key: Path
    authority: Path


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context of a server: TLS 1.2 or later, and a client certificate is required.

    Raises:
        InputError: A file is missing, not PEM, the key belongs to another certificate, or other users can read it.
    """
    context = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context of a client, which checks the host name of the server, too.

    Raises:
        InputError: As `server_context`.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _loaded(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        mode = stat.S_IMODE(files.key.stat().st_mode)
        if os.name == "posix" and mode & 0o077:
            raise InputError(
                f"{files.key.name}: users other than its owner can read or change the private key (mode {mode:03o}): "
                "chmod 600, and replace it if others may have read it"
            )
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{files.certificate.name} and {files.key.name}: not a certificate and its private key, both in PEM format "
            f"({error.strerror or type(error).__name__})"
        ) from error
    try:
        context.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{files.authority.name}: no certificates in PEM format ({error.strerror or type(error).__name__})"
        ) from error
    return context
