"""Names and roles of members: what an authority may give, and what is read out of any subject."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.errors import UsageError
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.certificates import create_request, facts_of_pem
from qkt_p2p.identity.keys import generate_key
from qkt_p2p.identity.naming import names_in, parse_member_name, parse_roles, subject_of
from qkt_p2p.limits import MAX_NAME_CHARACTERS, MAX_ROLES

NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1).filter(
    lambda name: name.isprintable() and len(name.encode()) <= MAX_NAME_CHARACTERS
)
ROLES = st.lists(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), max_size=MAX_ROLES)


@given(NAMES, ROLES)
def test_a_subject_says_what_it_was_made_of(name: str, roles: list[str]) -> None:
    """Name and roles survive the way through a certificate's subject."""
    given_roles = parse_roles(roles)
    assert names_in(subject_of(parse_member_name(name), given_roles)) == (name, given_roles)


def test_facts_name_the_member_as_its_authority_did() -> None:
    """Name, roles and serial number of a certificate can be asked for with every call."""
    authority, now = create_authority("fed"), datetime.now(UTC)
    request = create_request(generate_key())
    issued = sign_request(authority, request, name="Ward 7", roles=["teacher", "hospital"], now=now)
    facts = facts_of_pem(issued.chain)
    assert (facts.name, facts.roles, facts.serial) == ("Ward 7", ("hospital", "teacher"), issued.serial)
    assert facts.problems == ()
    assert facts_of_pem(bytes(issued.chain)) is facts


def test_a_member_without_a_name_is_called_by_its_peer_id() -> None:
    """The default name tells members apart."""
    issued = sign_request(create_authority("fed"), create_request(generate_key()))
    assert issued.name == facts_of_pem(issued.chain).name == f"peer {issued.peer_id[:8]}"


@pytest.mark.parametrize("name", ["", " a", "a\n", "a" * 65, "é" * 33, "\x1b[31m"])
def test_unusable_names(name: str) -> None:
    """What a table could not show is no name."""
    with pytest.raises(UsageError, match="not a member's name"):
        parse_member_name(name)


@pytest.mark.parametrize("role", ["", "Teacher", "a b", "a,b", "ä", "a" * 33, "a\n"])
def test_unusable_roles(role: str) -> None:
    """A role is a-z, 0-9 and '-'."""
    with pytest.raises(UsageError, match="not a role"):
        parse_roles([role])


def test_too_many_roles() -> None:
    """Every handshake carries them, so they are few."""
    with pytest.raises(UsageError, match="at most 16 roles"):
        parse_roles([f"role-{number}" for number in range(MAX_ROLES + 1)])


def test_subjects_of_other_authorities() -> None:
    """Departments are no roles, and of two names neither counts."""
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hospital"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Radiology Dept."),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "teacher"),
        x509.NameAttribute(NameOID.COMMON_NAME, "one"),
    ]
    assert names_in(x509.Name(attributes)) == ("one", ("teacher",))
    twice = [*attributes, x509.NameAttribute(NameOID.COMMON_NAME, "two")]
    assert names_in(x509.Name(twice)) == ("", ("teacher",))
    assert names_in(x509.Name([])) == ("", ())
