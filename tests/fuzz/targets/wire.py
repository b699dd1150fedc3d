"""Every message between peers: what decodes goes there and back unchanged."""

from __future__ import annotations

from qkt_p2p.errors import ProtocolError
from qkt_p2p.transport.methods import parse_message
from qkt_p2p.types import Heartbeat, TeachWait
from qkt_p2p.wire.calls import Call, CallEnd
from tests.fuzz.mutators import protobuf
from tests.fuzz.target import Target
from tests.transport.members import ELSEWHERE, PROBE, REPORT, RESPONSE, TEACH, TEACHER_NODE
from tests.wire.pairs import PAIRS, Pair

_VALUES: dict[str, list[object]] = {
    "description": [TEACHER_NODE],
    "heartbeat request": [Heartbeat(True, 1, 2)],
    "heartbeat response": [Heartbeat(False, 3)],
    "peer addresses": [ELSEWHERE],
    "revocations request": [b"lists"],
    "revocations response": [b"lists"],
    "probe request": [PROBE],
    "probe report": [REPORT],
    "teach request": [TEACH],
    "teach part": [*RESPONSE, TeachWait(2)],
    "call": [None, Call(1, "Probe", b"request")],
    "answer part": [1, b"response", CallEnd(5, "detail")],
}


def _target(name: str, pair: Pair) -> Target:
    def run(data: bytes) -> None:
        value = pair.decode(parse_message(pair.message, data))
        sent = pair.encode(value).SerializeToString()
        assert pair.decode(parse_message(pair.message, sent)) == value

    return Target(
        run=run,
        promised=(ProtocolError,),
        seeds=lambda: [pair.encode(value).SerializeToString() for value in _VALUES[name]],
        mutate=protobuf(pair.message),
    )


TARGETS = {name.replace(" ", "-"): _target(name, pair) for name, pair in PAIRS.items()}
