"""Parsing of server addresses."""

from __future__ import annotations

import pytest
from CT2PETLib.client.errors import ServerUrlError
from CT2PETLib.client.http.server_url import parse_server_url, remember

VALID = [
    ("127.0.0.1:8000", "http://127.0.0.1:8000", 8000),
    (" http://localhost:8000/ ", "http://localhost:8000", 8000),
    ("https://PET.hospital.example", "https://pet.hospital.example", 443),
    ("http://pet.example/monai/", "http://pet.example/monai", 80),
    ("[::1]:8000", "http://[::1]:8000", 8000),
]
INVALID = [
    ("", "The server address is empty"),
    ("ftp://pet.example", "is not a server address"),
    ("http://", "is not a server address"),
    ("pet example:8000", "is not a server address"),
    ("http://pet.example:eighty", "is not a server address"),
    ("http://me:secret@pet.example", "sign in"),
    ("http://pet.example/?x=1", "remove everything after"),
]


@pytest.mark.parametrize(("typed", "base", "port"), VALID)
def test_valid_addresses_are_parsed(typed: str, base: str, port: int) -> None:
    address = parse_server_url(typed)
    assert (str(address), address.port) == (base, port)


@pytest.mark.parametrize(("typed", "message"), INVALID)
def test_invalid_addresses_are_refused_with_a_reason(typed: str, message: str) -> None:
    with pytest.raises(ServerUrlError, match=message) as refused:
        parse_server_url(typed)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "warns"),
    [("http://pet.example", True), ("https://pet.example", False), ("127.0.0.9:80", False), ("localhost", False)],
)
def test_unencrypted_connections_have_a_warning(typed: str, warns: bool) -> None:
    assert bool(parse_server_url(typed).warning) == warns


def test_parts_of_a_path_are_quoted() -> None:
    assert parse_server_url("pet.example").of("infer", "../x?y", "") == "http://pet.example/infer/..%2Fx%3Fy/"


def test_history_is_newest_first_without_duplicates() -> None:
    history = tuple(f"http://s{k}.example" for k in range(8))
    assert remember(history, parse_server_url("s3.example"))[:3] == (history[3], history[0], history[1])
    assert remember(history, parse_server_url("new.example")) == ("http://new.example", *history[:7])
