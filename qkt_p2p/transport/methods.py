"""The calls of PeerService: their paths and the messages that travel, for both sides and every transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from qkt_p2p.errors import PeerRefusedError, ProtocolError
from qkt_p2p.pb import peer_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
M = TypeVar("M", bound=Message)

SERVICE: Final[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["PeerService"]


def path_of(method: str) -> str:
    """Return the path of a call of PeerService."""
    return f"/{SERVICE.full_name}/{method}"


def method_in(path: str) -> str:
    """Return the name of the called method, of whichever service."""
    return path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """One call: its name and the messages there and back."""

    name: str
    request: type[Q]
    answer: type[A]

    @property
    def path(self) -> str:
        """By which HTTP/2 names the call."""
        return path_of(self.name)


HELLO: Final = Method("Hello", pb.HelloRequest, pb.HelloResponse)
HEARTBEAT: Final = Method("Heartbeat", pb.HeartbeatRequest, pb.HeartbeatResponse)
EXCHANGE_PEERS: Final = Method("ExchangePeers", pb.ExchangePeersRequest, pb.ExchangePeersResponse)
EXCHANGE_REVOCATIONS: Final = Method(
    "ExchangeRevocations", pb.ExchangeRevocationsRequest, pb.ExchangeRevocationsResponse
)
PROBE: Final = Method("Probe", pb.ProbeRequest, pb.ProbeResponse)
TEACH: Final = Method("Teach", pb.TeachRequest, pb.TeachResponse)
ATTACH: Final = Method("Attach", pb.AttachRequest, pb.AttachResponse)
ANSWER: Final = Method("Answer", pb.AnswerRequest, pb.AnswerResponse)


def within(message: bytes, limit: int) -> bytes:
    """Return a message that may travel; raises PeerRefusedError where it is larger than `limit` bytes."""
    if len(message) > limit:
        raise PeerRefusedError(f"a message of {len(message)} bytes is larger than {limit}")
    return message


def parse_message(kind: type[M], data: bytes) -> M:
    """Return the message in `data`; raises ProtocolError where there is none.

    grpc's own deserializers turn malformed bytes into None on one side and into a status that shows
    the inside of the node on the other, so both sides let it carry bytes.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProtocolError(f"{len(data)} bytes are not a {kind.DESCRIPTOR.name}") from error
