"""Who is there: hints of where to dial, and liveness by heartbeats.

membership   what is known of each peer, on one monotonic clock
contacts     dials bootstrap addresses and hints, says hello, keeps heartbeats going

Discovery is a hint, identity comes from TLS, liveness from heartbeats.
"""

from qkt_p2p.discovery.contacts import Contacts, Dialer, PeerLink
from qkt_p2p.discovery.membership import FoundBy, Member, Membership, MemberState

__all__ = ["Contacts", "Dialer", "FoundBy", "Member", "MemberState", "Membership", "PeerLink"]
