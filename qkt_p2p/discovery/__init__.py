"""Who is there: hints of where to dial, and liveness by heartbeats.

member       one peer at one moment, and how it stands
membership   what is known of each peer, on one monotonic clock
mdns         hints from the local network
ring         with whom a node keeps heartbeats, so that nobody's cost grows with the federation
bootstrap    finds out who answers at the addresses of node.toml
contacts     whom a node keeps in contact with: takes hints, lends connections to queries
following    dials a peer until it answers, and keeps a conversation while it is needed
conversation what is said on one connection: hello, exchanges, beats, goodbye
book         the peers that are followed, and which of them are needed
lines        the open connections: dialed, and lent by peers that nobody can dial
gathering    waits for whom a query can ask
links        what is needed of a transport, as Protocols
pace         how often, and how long to wait for those that do not answer

Discovery is a hint, identity comes from TLS, liveness from heartbeats.
"""

from qkt_p2p.discovery.contacts import Contacts
from qkt_p2p.discovery.gathering import Gathered
from qkt_p2p.discovery.links import Dialer, PeerLink
from qkt_p2p.discovery.member import Conduct, FoundBy, Member, MemberState
from qkt_p2p.discovery.membership import Membership
from qkt_p2p.discovery.pace import Pace

__all__ = [
    "Conduct",
    "Contacts",
    "Dialer",
    "FoundBy",
    "Gathered",
    "Member",
    "MemberState",
    "Membership",
    "Pace",
    "PeerLink",
]
