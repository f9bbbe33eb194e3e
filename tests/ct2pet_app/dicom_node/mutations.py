"""Mutated associations: the bytes of a valid one, with random changes."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from typing import Any

REPLY_TIMEOUT_S = 0.05


def recorded(port: int, dataset: Any) -> list[bytes]:
    """Return the PDUs that a client sends to associate, store one instance and release."""
    from pynetdicom import AE, evt

    sent: list[bytes] = []
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate(
        "127.0.0.1", port, ae_title="CT2PET", evt_handlers=[(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))]
    )
    assert association.send_c_store(dataset).Status == 0
    association.release()
    return sent


@contextlib.contextmanager
def associated(port: int) -> Iterator[None]:
    """Hold an association with a node until the context ends."""
    from pynetdicom import AE

    entity = AE(ae_title="SCANNER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", port, ae_title="CT2PET")
    assert association.is_established
    yield
    association.release()


def mutated(pdus: list[bytes], count: int, *, seed: int = 16) -> Iterator[list[bytes]]:
    """Yield mutated associations: changed, removed, added, repeated or cut bytes, in one of the PDUs or in several."""
    choices = random.Random(seed)
    for number in range(count):
        changed = [bytearray(pdu) for pdu in pdus]
        # every third one is mutated in its request, the others in their messages, of which the first is the command
        at = 0 if number % 3 == 0 else choices.choice([1, 2, choices.randrange(1, len(pdus))])
        for _ in range(choices.choice([1, 1, 2, 8])):
            _mutate(changed[min(at, len(changed) - 1)], choices)
        if number % 7 == 0:
            choices.shuffle(changed)
        yield [bytes(pdu) for pdu in changed]


def _mutate(pdu: bytearray, choices: random.Random) -> None:
    place = choices.randrange(len(pdu)) if choices.random() < 0.5 else choices.randrange(min(300, len(pdu)))
    match choices.randrange(5):
        case 0:
            pdu[place] = choices.choice([0, 1, 0x7F, 0x80, 0xFF, choices.randrange(256)])
        case 1:
            del pdu[place : place + choices.choice([1, 4, 100])]
        case 2:
            pdu[place:place] = choices.randbytes(choices.choice([1, 4, 1000]))
        case 3:
            pdu[place:place] = pdu[place : place + 200]
        case _:
            del pdu[place:]
    pdu[:] = pdu or b"\0"


def replay(port: int, pdus: list[bytes]) -> None:
    """Send the bytes of an association, without regard to the answers."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(REPLY_TIMEOUT_S)
        for pdu in pdus:
            connection.sendall(pdu)
            with contextlib.suppress(TimeoutError):
                connection.recv(4096)
