"""The one line of text by which a machine joins: where the authority is, how to know it, and a secret.

"qkt1" and, in base64url without padding, these fields with numbers in network order:

    expiry               8 bytes, seconds since 1970
    root                32 bytes, SHA-256 of the root's public key
    invitation          16 bytes
    secret              32 bytes
    federation           1 byte length, ASCII
    addresses            1 byte count, and each: 2 bytes length, ASCII
    checksum             4 bytes, the first of the SHA-256 of all before: a damaged copy is told as such
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from qkt_p2p.errors import UsageError
from qkt_p2p.identity.keys import decode_digest, encode_digest, parse_federation
from qkt_p2p.limits import MAX_ADDRESS_CHARACTERS, MAX_ADDRESSES, MAX_TOKEN_CHARACTERS

PREFIX: Final = "qkt1"
SECRET_BYTES: Final = 32
INVITATION_BYTES: Final = 16
_CHECKSUM_BYTES: Final = 4
_DIGEST_BYTES: Final = 32
_MAX_EXPIRY: Final = 253_402_300_799  # the last second of the year 9999, which datetime ends with


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says; `addresses` are "host:port" of enrolment, `root` the root's fingerprint."""

    federation: str
    root: str
    invitation: str
    secret: bytes = field(repr=False)
    expires: datetime
    addresses: tuple[str, ...]


def encode_token(token: Token) -> str:
    """Return the token as people pass it on; raises UsageError for addresses that cannot be dialed."""
    addresses = check_addresses(token.addresses)
    federation = token.federation.encode("ascii")
    parts = [
        struct.pack("!Q", int(token.expires.timestamp())),
        decode_digest(token.root),
        bytes.fromhex(token.invitation),
        token.secret,
        struct.pack("!B", len(federation)),
        federation,
        struct.pack("!B", len(addresses)),
        *(struct.pack("!H", len(each)) + each.encode("ascii") for each in addresses),
    ]
    payload = b"".join(parts)
    return PREFIX + base64.urlsafe_b64encode(payload + _checksum(payload)).decode("ascii").rstrip("=")


def decode_token(text: str) -> Token:
    """Return what `encode_token` made a text of; raises UsageError for any other, or a damaged one."""
    try:
        payload = _payload(text.strip())
        token = _parse(payload)
    except (ValueError, struct.error, UsageError) as error:
        raise UsageError(
            f"this is no token, or a damaged copy of one: {_cause(error)}",
            fix=f"copy the whole line that begins with {PREFIX}, from `qkt-node invite`",
        ) from error
    return token


def check_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return `addresses` if there are 1 to 8 of "host:port" that can be dialed; raises UsageError."""
    if not 0 < len(addresses) <= MAX_ADDRESSES:
        raise UsageError(f"1 to {MAX_ADDRESSES} addresses are needed, not {len(addresses)}")
    for address in addresses:
        host, _, port = address.rpartition(":")
        named = address.isascii() and address.isprintable() and not set(host) & set(" /,@")
        numeric = port.isascii() and port.isdecimal() and 0 < len(port) <= 5 and 0 < int(port) < 65536
        bracketed = host.startswith("[") and host.endswith("]")
        if not (named and numeric and host.strip("[]")) or len(address) > MAX_ADDRESS_CHARACTERS:
            raise UsageError(f"{address[:80]!r} is not host:port", fix="give host:port, as in 192.0.2.7:7448")
        if bracketed != (":" in host):
            raise UsageError(
                f"{address[:80]!r} is not host:port", fix='write IPv6 as in "[2001:db8::7]:7448"'
            )
    return addresses


def _payload(text: str) -> bytes:
    """Return the bytes before the checksum, which is right."""
    body = text.removeprefix(PREFIX)
    if body == text or len(text) > MAX_TOKEN_CHARACTERS or not text.isascii():
        raise ValueError(f"it does not begin with {PREFIX}, or is too long")
    data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    payload, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    # Two texts for one token would come of bits that base64 leaves unused.
    unpadded = base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
    if checksum != _checksum(payload) or unpadded != body:
        raise ValueError("its checksum is wrong")
    return payload


def _parse(payload: bytes) -> Token:
    reader = _Reader(payload)
    (expiry,) = struct.unpack("!Q", reader.take(8))
    if expiry > _MAX_EXPIRY:
        raise ValueError("its expiry is out of range")
    root, invitation, secret = (reader.take(size) for size in (_DIGEST_BYTES, INVITATION_BYTES, SECRET_BYTES))
    federation = parse_federation(reader.take(reader.take(1)[0]).decode("ascii"))
    count = reader.take(1)[0]
    addresses = tuple(
        reader.take(int.from_bytes(reader.take(2), "big")).decode("ascii")
        for _ in range(min(count, MAX_ADDRESSES + 1))
    )
    reader.end()
    return Token(
        federation=federation,
        root=encode_digest(root),
        invitation=invitation.hex(),
        secret=secret,
        expires=datetime.fromtimestamp(expiry, UTC),
        addresses=check_addresses(addresses),
    )


class _Reader:
    """Takes bytes off the front; raises ValueError where there are too few, or some are left."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        if len(taken) < size:
            raise ValueError("it ends too early")
        return taken

    def end(self) -> None:
        if self._data:
            raise ValueError("it goes on after its end")


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECKSUM_BYTES]


def _cause(error: Exception) -> str:
    if isinstance(error, UsageError):
        return error.message
    if isinstance(error, binascii.Error | UnicodeDecodeError):
        return "it holds characters that no token has"
    return str(error)
