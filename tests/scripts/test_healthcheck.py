"""scripts/healthcheck.py: success while a server responds, failure otherwise."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.server.processes import free_port

HEALTHCHECK = Path(__file__).resolve().parents[2] / "scripts" / "healthcheck.py"


def exit_code(port: int) -> int:
    return subprocess.run([sys.executable, HEALTHCHECK, str(port)], timeout=60, check=False).returncode


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (500, 1)])
def test_the_status_of_the_server_decides(status: int, expected: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert exit_code(server.server_port) == expected
        server.shutdown()


def test_no_server_is_a_failure() -> None:
    assert exit_code(free_port()) == 1
