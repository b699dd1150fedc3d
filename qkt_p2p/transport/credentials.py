"""TLS material -> grpc credentials, and the options that every channel and server share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from qkt_p2p.identity.keys import dns_name_of
from qkt_p2p.limits import HANDSHAKE_SECONDS, KEEPALIVE_SECONDS, MAX_MESSAGE_BYTES, STREAM_WINDOW_BYTES

if TYPE_CHECKING:
    from qkt_p2p.identity.standing import Standing
    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.types import PeerId

Options = list[tuple[str, Any]]

_PING_MS = int(KEEPALIVE_SECONDS[0] * 1000)
_PING_TIMEOUT_MS = int(KEEPALIVE_SECONDS[1] * 1000)

_SHARED_OPTIONS: Options = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A window that is fixed, instead of one that grows with what the link seems to bear.
    ("grpc.http2.lookahead_bytes", STREAM_WINDOW_BYTES),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_time_ms", _PING_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
]


def server_credentials(standing: Standing) -> grpc.ServerCredentials:
    """Return credentials that demand a certificate of this federation from every caller.

    A connection gets those of its moment: what the node shows may change.
    """
    given = standing.identity

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # Called by a thread of grpc's for every connection; None keeps what it has.
        nonlocal given
        current = standing.identity
        if current is given:
            return None
        given = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        fetch,  # type: ignore[arg-type] # None is allowed, says grpc's documentation
        require_client_authentication=True,
    )


def server_options() -> Options:
    """Return options of a server: message caps, dead-link detection, no sharing of the port."""
    return [
        *_SHARED_OPTIONS,
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_SECONDS * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # After a pause of its process or of the network a caller's pings arrive bunched: that is no flood.
        ("grpc.http2.max_ping_strikes", 0),
    ]


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Return credentials that show this node's certificate and accept this federation's only."""
    return grpc.ssl_channel_credentials(
        root_certificates=identity.roots,
        private_key=identity.private_key,
        certificate_chain=identity.certificate_chain,
    )


def channel_options(peer: PeerId) -> Options:
    """Return options of a channel on which nobody but `peer` can answer."""
    return [
        *_SHARED_OPTIONS,
        ("grpc.ssl_target_name_override", dns_name_of(peer)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.enable_http_proxy", 0),
        # Reconnection is the membership's decision, with its own growing pauses.
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Channels to one target must not share a connection across identities in one process.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    pairs = [(identity.private_key, identity.certificate_chain)]
    return grpc.ssl_server_certificate_configuration(pairs, root_certificates=identity.roots)
