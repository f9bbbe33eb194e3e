#!/usr/bin/env python3
"""Exit with 0 if the server of this machine responds: the health check of the container. Needs no account.

usage: healthcheck.py [PORT]    (8000 by default; with and without TLS)
"""

from __future__ import annotations

import http.client
import ssl
import sys

TIMEOUT_S = 10.0


def is_responding(port: int) -> bool:
    """Return whether the server responds to `GET /` with a success."""
    unverified = ssl._create_unverified_context()  # the certificate is of the server's public name
    for connection in (
        http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S),
        http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_S, context=unverified),
    ):
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return False


if __name__ == "__main__":
    sys.exit(0 if is_responding(int(sys.argv[1]) if len(sys.argv) > 1 else 8000) else 1)
