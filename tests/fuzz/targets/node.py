"""What reaches a node beside its peers' calls: addresses, mDNS records, statuses, its worker, its owner."""

from __future__ import annotations

import asyncio
import atexit
import json
from typing import Any, cast

import grpc
from zeroconf import (  # type: ignore[attr-defined] # its own documentation imports them from here
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSService,
    DNSText,
)
from zeroconf.asyncio import AsyncServiceInfo

from qkt_node.asking import query_from
from qkt_node.events import QueryOptions
from qkt_node.settings import NodeConfig
from qkt_node.worker.child import Child
from qkt_node.worker.operations import PROBE
from qkt_p2p.discovery.mdns import SERVICE_TYPE, federation_tag, hint_in, service_named
from qkt_p2p.errors import PEER_FAILURES, PeerUnavailableError, QktError, UsageError
from qkt_p2p.identity.tokens import check_addresses
from qkt_p2p.limits import MAX_ADDRESS_CHARACTERS, MAX_ADDRESSES
from qkt_p2p.pb import control_pb2
from qkt_p2p.privacy.policy import parse_rule
from qkt_p2p.transport.addresses import split_address
from qkt_p2p.transport.methods import parse_message
from qkt_p2p.transport.status import peer_error
from qkt_p2p.types import PeerId
from tests.fuzz.formats import json_text
from tests.fuzz.mutators import protobuf
from tests.fuzz.target import Target

_PEER = PeerId("a" * 52)
_FEDERATION = "fed"
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _address(data: bytes) -> None:
    host, port = split_address(_text(data))
    assert 0 < port < 65536
    assert 0 < len(host) <= MAX_ADDRESS_CHARACTERS
    assert not set(host) & set("/@%[] ")


def _token_address(data: bytes) -> None:
    (address,) = check_addresses((_text(data),))
    assert len(address) <= MAX_ADDRESS_CHARACTERS


def _mdns(packet: bytes) -> None:
    """Take a DNS packet as it comes by multicast, and what its records say of each service in it."""
    message = DNSIncoming(packet)
    answers = message.answers() if message.valid else []
    addresses = [each.address for each in answers if isinstance(each, DNSAddress)]
    texts = [each.text for each in answers if isinstance(each, DNSText)]
    ports = [each.port for each in answers if isinstance(each, DNSService)]
    for alias in [each.alias for each in answers if isinstance(each, DNSPointer)]:
        info = service_named(alias)
        if info is None:
            continue
        told = AsyncServiceInfo(
            SERVICE_TYPE,
            info.name,
            ports[0] if ports else 0,
            properties=texts[0] if texts else b"",
            addresses=addresses,
        )
        hint = hint_in(told, _FEDERATION)
        if hint is not None:
            assert len(hint[0]) == len(_PEER)
            assert len(hint[1]) <= MAX_ADDRESSES
            for address in hint[1]:
                split_address(address)


def _packets() -> list[bytes]:
    """Return what a node publishes."""
    name = f"{_PEER}.{SERVICE_TYPE}"
    text = b"".join(
        bytes([len(entry)]) + entry
        for entry in (f"peer={_PEER}".encode(), f"fed={federation_tag(_FEDERATION)}".encode())
    )
    packet = DNSOutgoing(0x8400)
    cls, ttl = 1, 120
    packet.add_answer_at_time(DNSPointer(SERVICE_TYPE, 12, cls, ttl, name), 0)
    packet.add_answer_at_time(DNSService(name, 33, cls, ttl, 0, 0, 7447, f"{_PEER}.local."), 0)
    packet.add_answer_at_time(DNSText(name, 16, cls, ttl, text), 0)
    packet.add_answer_at_time(DNSAddress(f"{_PEER}.local.", 1, cls, ttl, bytes([192, 0, 2, 1])), 0)
    packet.add_answer_at_time(DNSAddress(f"{_PEER}.local.", 28, cls, ttl, bytes(15) + b"\x01"), 0)
    return list(packet.packets())


def _status(data: bytes) -> None:
    """Take the status of a failed call: whatever its detail holds, it can be shown."""
    status = list(grpc.StatusCode)[data[0] % len(grpc.StatusCode)] if data else grpc.StatusCode.OK
    error = peer_error(status, data[1:].decode("utf-8", "surrogateescape"))
    assert isinstance(error, PEER_FAILURES)
    assert error.message.isprintable()
    error.message.encode()


class _Process:
    """Stands in for a worker process, of which only the answers count."""

    pid = 0

    async def wait(self) -> int:
        return 0

    def kill(self) -> None:
        """Nothing runs."""


class _Writer:
    """Takes what the daemon sends."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    async def drain(self) -> None:
        """Never full."""

    def close(self) -> None:
        """Nothing to close."""


def _worker_lines(data: bytes) -> None:
    """Read what a worker sends: a call that waits always ends, with a result or a QktError."""

    async def read() -> None:
        reader = asyncio.StreamReader(limit=1 << 16)
        child = Child(cast("Any", _Process()), reader, writer=cast("Any", _Writer()))
        call = asyncio.create_task(child.call(PROBE, None, lambda _: None))
        # The worker answers what it was asked.
        asyncio.get_running_loop().call_soon(reader.feed_data, data)
        asyncio.get_running_loop().call_soon(reader.feed_eof)
        await child.ended
        await call

    _LOOP.run_until_complete(read())


def _lines() -> list[bytes]:
    progress = {"step": "probe", "done": 1, "total": 2, "message": "m"}
    error = {"code": "peer-refused", "message": "no", "fix": "ask"}
    frames: list[dict[str, object]] = [{"progress": progress}, {"error": error}, {"result": [1]}]
    return [json.dumps({"id": 1, **frame}).encode() + b"\n" for frame in frames]


def _query(data: bytes) -> None:
    """Take what the owner's command line asks for."""
    request = parse_message(control_pb2.RunQueryRequest, data)
    fields = {name: getattr(request, name) for name in QueryOptions.__dataclass_fields__}
    query_from(QueryOptions(**{**fields, "classes": tuple(request.classes)}), NodeConfig())


def _queries() -> list[bytes]:
    return [control_pb2.RunQueryRequest(classes=["cat", "dog"], deadline_seconds=3).SerializeToString()]


def _rule(data: bytes) -> None:
    parse_rule(_text(data))


_HOSTS = (b"host:1", b"[::1]:7448", b"192.0.2.7:65535", b"[2001:db8::7%eth0]:1", b"unix:/x:1")

TARGETS = {
    "address": Target(_address, (PeerUnavailableError,), lambda: _HOSTS),
    "token-address": Target(_token_address, (UsageError,), lambda: _HOSTS),
    "mdns": Target(
        _mdns, (), _packets, dictionary=(b"_qkt", b"_tcp", b"local", b"peer=", b"fed=", b"\xc0\x0c")
    ),
    "status": Target(_status, (), lambda: [b"\x03no such thing", b"\x05\xff\x1b[2J"]),
    "worker-lines": Target(_worker_lines, (QktError,), _lines, json_text),
    "query": Target(_query, (QktError,), _queries, protobuf(control_pb2.RunQueryRequest)),
    "rule": Target(_rule, (UsageError,), lambda: [b"*", b"peer:" + b"a" * 52, b"name:ward-*", b"role:x"]),
}
