"""What one peer, or all together, may cost a storage server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkLimits:
    """Limits of a storage server.

    Attributes:
        max_associations: At the same time; further ones are rejected as a local limit (PS3.8 9.3.4).
        max_pdu_bytes: Announced to peers; a longer PDU ends the association.
        max_instance_bytes: Of one data set; a longer one ends the association.
        acse_timeout_s: Until an association is requested, and between its messages.
        network_timeout_s: Without any data, and for one PDU or response to pass.
        handshake_timeout_s: For TLS.
    """

    max_associations: int = 10
    max_pdu_bytes: int = 2**17
    max_instance_bytes: int = 2**30
    acse_timeout_s: float = 10.0
    network_timeout_s: float = 60.0
    handshake_timeout_s: float = 10.0
