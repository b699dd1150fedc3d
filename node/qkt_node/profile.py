"""What a node says of itself, to peers and to its owner, at any moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from qkt_p2p import __version__
from qkt_p2p.types import MEDIA, Heartbeat, NodeDescription, StudentModel

PROTOCOL_VERSION = 1


@dataclass(slots=True)
class Profile:
    """The daemon's one mutable description; `addresses` and `model` are set while it starts.

    `model` is replaced whole by what the worker says of each next version.

    `revocations` is the digest of the revocation lists that the node holds; `warnings` are for the owner.
    """

    name: str
    media: tuple[str, ...] = MEDIA
    addresses: tuple[str, ...] = ()
    draining: bool = False
    revocations: int = 0
    warnings: tuple[str, ...] = ()
    model: StudentModel = field(default_factory=lambda: StudentModel(0, (1, 1, 1), (), ()))

    def describe(self) -> NodeDescription:
        """Return the description for a hello."""
        return NodeDescription(
            protocol_version=PROTOCOL_VERSION,
            node_name=self.name,
            software_version=__version__,
            known_classes=self.model.known,
            media=self.media,
            addresses=self.addresses,
            model_version=self.model.version,
        )

    def beat(self) -> Heartbeat:
        """Return this moment's heartbeat."""
        return Heartbeat(self.draining, self.model.version, self.revocations)
