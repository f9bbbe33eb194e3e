"""What users type as an address."""

from __future__ import annotations

import pytest
from CT2PETLib.client.errors import ServerUrlError
from CT2PETLib.client.server_url import parse_server_url, remember

TYPED = [
    ("127.0.0.1:8000", "http://127.0.0.1:8000", 8000),
    (" http://localhost:8000/ ", "http://localhost:8000", 8000),
    ("https://PET.hospital.example", "https://pet.hospital.example", 443),
    ("http://pet.example/monai/", "http://pet.example/monai", 80),
    ("[::1]:8000", "http://[::1]:8000", 8000),
]
WRONG = [
    ("", "no server address yet"),
    ("ftp://pet.example", "is no server address"),
    ("http://", "is no server address"),
    ("pet example:8000", "is no server address"),
    ("http://pet.example:eighty", "is no server address"),
    ("http://me:secret@pet.example", "sign in"),
    ("http://pet.example/?x=1", "leave out what follows"),
]


@pytest.mark.parametrize(("typed", "base", "port"), TYPED)
def test_an_address_is_understood(typed: str, base: str, port: int) -> None:
    address = parse_server_url(typed)
    assert (str(address), address.port) == (base, port)


@pytest.mark.parametrize(("typed", "words"), WRONG)
def test_what_is_no_address_is_refused_with_the_reason(typed: str, words: str) -> None:
    with pytest.raises(ServerUrlError, match=words) as refused:
        parse_server_url(typed)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "warns"),
    [("http://pet.example", True), ("https://pet.example", False), ("127.0.0.9:80", False), ("localhost", False)],
)
def test_a_connection_that_others_can_read_is_warned_of(typed: str, warns: bool) -> None:
    assert bool(parse_server_url(typed).warning) == warns


def test_no_part_of_a_path_leads_elsewhere() -> None:
    assert parse_server_url("pet.example").of("infer", "../x?y", "") == "http://pet.example/infer/..%2Fx%3Fy/"


def test_the_newest_address_is_offered_first_and_once() -> None:
    history = tuple(f"http://s{k}.example" for k in range(8))
    assert remember(history, parse_server_url("s3.example"))[:3] == (history[3], history[0], history[1])
    assert remember(history, parse_server_url("new.example")) == ("http://new.example", *history[:7])
