"""What an authority calls a member: a name for people and rules, and roles for rules.

Both stand in the subject of the member's certificate, so that only an authority can give them: the
name as common name, every role as organizational unit (X.520).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from qkt_p2p.errors import UsageError
from qkt_p2p.limits import MAX_NAME_CHARACTERS, MAX_ROLES
from qkt_p2p.types import PeerId, parse_role, short

if TYPE_CHECKING:
    from collections.abc import Sequence


def default_name(peer: PeerId) -> str:
    """Return what a member is called where its authority gives it no name."""
    return f"peer {short(peer)}"


def parse_member_name(text: str) -> str:
    """Return `text` as a member's name, printable and of 1 to 64 bytes (X.520); raises UsageError."""
    if not _is_name(text):
        raise UsageError(
            f"{text[:80]!r} is not a member's name",
            fix=f"use 1 to {MAX_NAME_CHARACTERS} printable characters (bytes in UTF-8) without outer spaces",
        )
    return text


def parse_roles(texts: Sequence[str]) -> tuple[str, ...]:
    """Return `texts` as roles, sorted and each once; raises UsageError for one that is none, or too many."""
    roles = tuple(sorted(set(map(parse_role, texts))))
    if len(roles) > MAX_ROLES:
        raise UsageError(f"a member has at most {MAX_ROLES} roles, not {len(roles)}")
    return roles


def subject_of(name: str, roles: Sequence[str]) -> x509.Name:
    """Return the subject that carries a name and roles."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role) for role in roles]
    return x509.Name(attributes)


def names_in(subject: x509.Name) -> tuple[str, tuple[str, ...]]:
    """Return the name ("" unless there is exactly one usable) and the roles that a subject carries.

    Other authorities also write departments and the like as organizational units: those that are no
    roles are left out, and so is what goes beyond the cap.
    """
    names = _values(subject, NameOID.COMMON_NAME)
    roles = {unit for unit in _values(subject, NameOID.ORGANIZATIONAL_UNIT_NAME) if _is_role(unit)}
    name = names[0] if len(names) == 1 and _is_name(names[0]) else ""
    return name, tuple(sorted(roles)[:MAX_ROLES])


def _is_name(text: str) -> bool:
    if not text.isprintable() or text != text.strip():
        return False
    return 0 < len(text.encode("utf-8")) <= MAX_NAME_CHARACTERS


def _is_role(text: str) -> bool:
    try:
        parse_role(text)
    except UsageError:
        return False
    return True


def _values(subject: x509.Name, kind: x509.ObjectIdentifier) -> list[str]:
    values = (attribute.value for attribute in subject.get_attributes_for_oid(kind))
    return [value for value in values if isinstance(value, str)]
