"""`status`, `peers`: what the daemon of a home knows."""

from typing import TYPE_CHECKING, Any

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.question import ask_daemon, shown_time
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption

if TYPE_CHECKING:
    from qkt_node.control.client import ControlClient
    from qkt_p2p.pb import control_pb2 as pb


def status(output: Output, home: HomeOption) -> Answer:
    """Show what the daemon is, serves and holds."""
    found = ask_daemon(home, lambda client: client.status())
    data = {
        "node": found.node_name,
        "peer_id": found.peer_id,
        "federation": found.federation,
        "addresses": list(found.addresses),
        "pid": found.pid,
        "uptime_seconds": round(found.uptime_seconds, 1),
        "model_version": found.model_version,
        "local_classes": list(found.local_classes),
        "known_classes": list(found.known_classes),
        "live_peers": found.live_peers,
        "worker": found.worker_state,
        "teaching": found.teaching,
        "waiting": found.waiting,
        "version": found.software_version,
        "certificate_not_after": shown_time(found.certificate_not_after),
        "revoked": list(found.revoked),
        "warnings": list(found.warnings),
    }
    rows = [[key.replace("_", " "), _cell(value)] for key, value in data.items() if key != "warnings"]
    return Answer(data, [Table(["", ""], rows), *(f"warning: {each}" for each in found.warnings)])


def peers(output: Output, home: HomeOption) -> Answer:
    """List the peers that the daemon knows."""
    found, warnings = ask_daemon(home, _peers_and_warnings)
    data = [_peer(peer) for peer in found.peers]
    rows = [
        [
            peer["name"],
            peer["peer_id"][:8],
            peer["state"],
            peer["address"] or "-",
            peer["found_by"],
            (peer["certificate_not_after"] or "-")[:10],
            f"{peer['last_seen_seconds']:.0f} s ago",
            f"{1000 * peer['round_trip_seconds']:.1f} ms" if peer["round_trip_seconds"] else "-",
            ", ".join(peer["known_classes"]),
        ]
        for peer in data
    ]
    columns = ["peer", "id", "state", "address", "found by", "certified until", "seen", "round trip", "knows"]
    spare = ("round trip", "found by", "certified until", "seen")
    shown = (
        Table(columns, rows, spare=spare) if rows else "no peers yet: set [discovery] bootstrap in node.toml"
    )
    # Why nobody is live may lie with this node alone.
    return Answer({"peers": data, "warnings": warnings}, [shown, *(f"warning: {each}" for each in warnings)])


async def _peers_and_warnings(client: "ControlClient") -> tuple["pb.ListPeersResponse", list[str]]:
    return await client.peers(), list((await client.status()).warnings)


def _peer(peer: "pb.PeerStatus") -> dict[str, Any]:
    return {
        "peer_id": peer.peer_id,
        "name": peer.node_name,
        "state": peer.state,
        "address": peer.address,
        "found_by": peer.found_by,
        "known_classes": list(peer.known_classes),
        "last_seen_seconds": round(peer.last_seen_seconds, 2),
        "round_trip_seconds": round(peer.round_trip_seconds, 5),
        "certificate_not_after": shown_time(peer.certificate_not_after)
        if peer.certificate_not_after
        else None,
    }


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else str(value)
