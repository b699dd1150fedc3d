"""An authority at work: it signs once for an invitation, renews for members, and revokes for good."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.authority import IssuedCertificate, create_authority, save_authority, sign_request
from qkt_p2p.identity.certificates import create_request, facts_of_pem, request_der
from qkt_p2p.identity.enrollment import prove
from qkt_p2p.identity.keys import generate_key, peer_id_of
from qkt_p2p.identity.registrar import Registrar
from qkt_p2p.identity.renewal import renewal_due, renewal_time
from qkt_p2p.limits import MAX_KEYS_OF_MEMBER

AUTHORITY = create_authority("fed")


@pytest.fixture
def registrar(tmp_path: Path) -> Registrar:
    """The authority of an empty directory."""
    save_authority(AUTHORITY, tmp_path)
    return Registrar(AUTHORITY, tmp_path, lifetime=timedelta(days=30))


def request() -> bytes:
    return request_der(create_request(generate_key()))


def renewed(registrar: Registrar, old: IssuedCertificate, asked: bytes) -> IssuedCertificate:
    return registrar.renew(facts_of_pem(old.chain), asked)


def test_what_is_signed_is_remembered(registrar: Registrar) -> None:
    """Enrolment, renewal and a new key, each with its serial number and whose key vouched for it."""
    invitation = registrar.invitations.issue(name="Ward 7", roles=["teacher"], lifetime=timedelta(hours=1))
    asked, new = request(), request()
    first = registrar.enroll(invitation.id, prove(invitation.secret, asked), asked).issued
    second = renewed(registrar, first, asked)
    third = renewed(registrar, second, new)
    assert [each.serial for each in registrar.issued.all()] == [first.serial, second.serial, third.serial]
    assert [each.replaces for each in registrar.issued.all()] == ["", "", first.peer_id]
    for issued in (first, second, third):
        assert (issued.name, issued.roles) == ("Ward 7", ("teacher",))
        assert issued.not_after - datetime.now(UTC) < timedelta(days=30)


def test_a_renewal_needs_a_certificate_that_is_valid_now(registrar: Registrar) -> None:
    """On an open connection a certificate expires too."""
    asked = request()
    old = registrar.sign(asked)
    for now in (old.not_after + timedelta(seconds=1), datetime.now(UTC) - timedelta(days=1)):
        with pytest.raises(NotTrustedError, match="is not valid now"):
            registrar.renew(facts_of_pem(old.chain), asked, now=now)


def test_a_revoked_key_gets_nothing_more(registrar: Registrar) -> None:
    """Neither by renewal, nor with a token, nor by its owner's mistake."""
    asked = request()
    old = registrar.sign(asked)
    peers, lists = registrar.revoke(old.peer_id, reason="key-compromise")
    assert peers == [old.peer_id]
    assert lists.revokes(facts_of_pem(old.chain))
    invitation = registrar.invitations.issue(lifetime=timedelta(hours=1))
    for attempt in (
        lambda: renewed(registrar, old, asked),
        lambda: renewed(registrar, old, request()),
        lambda: registrar.enroll(invitation.id, prove(invitation.secret, asked), asked),
        lambda: registrar.sign(asked),
    ):
        with pytest.raises(NotTrustedError, match=f"has revoked peer {old.peer_id}"):
            attempt()


def test_revoking_a_peer_revokes_whoever_got_in_by_its_key(registrar: Registrar) -> None:
    """A thief who changed the key twice is out as well, and the other members stay."""
    first, other = registrar.sign(request(), name="Ward 7"), registrar.sign(request())
    second = renewed(registrar, first, request())
    third = renewed(registrar, second, request())
    peers, lists = registrar.revoke("Ward 7")
    assert peers == [first.peer_id, second.peer_id, third.peer_id]
    assert lists.peers == set(peers)
    assert not lists.revokes(facts_of_pem(other.chain))


def test_a_member_has_so_many_keys_at_a_time(registrar: Registrar) -> None:
    """Each is a peer to the others. Whichever key vouches, they count together until they end."""
    asked = [request() for _ in range(MAX_KEYS_OF_MEMBER)]
    keys = [registrar.sign(asked[0], now=datetime.now(UTC) - timedelta(days=1))]
    for each in asked[1:]:
        keys.append(renewed(registrar, keys[len(keys) // 2], each))
    remembered = registrar.issued.all()
    for voucher in keys:
        with pytest.raises(NotTrustedError, match=f"has {MAX_KEYS_OF_MEMBER} keys with a valid certificate"):
            renewed(registrar, voucher, request())
    assert registrar.issued.all() == remembered
    # What it has it may renew, also where the answer to a new key was lost; and others are not held up.
    renewed(registrar, keys[1], asked[1])
    renewed(registrar, keys[1], asked[2])
    renewed(registrar, registrar.sign(request()), request())
    one_ended = keys[0].not_after + timedelta(seconds=1)
    registrar.renew(facts_of_pem(keys[1].chain), request(), now=one_ended)


def test_revoked_keys_do_not_count(registrar: Registrar) -> None:
    """A member that lost one and had it revoked is not punished for it."""
    first = registrar.sign(request())
    keys = [renewed(registrar, first, request()) for _ in range(MAX_KEYS_OF_MEMBER - 1)]
    registrar.revoke(keys[0].peer_id)
    renewed(registrar, first, request())


def test_every_revocation_is_a_new_version(registrar: Registrar) -> None:
    """The list grows, and so does its number."""
    members = [registrar.sign(request()) for _ in range(3)]
    for number, each in enumerate(members, start=1):
        _, lists = registrar.revoke(each.peer_id)
        assert list(lists.versions.values()) == [number]
        assert len(lists.peers) == number
    assert registrar.revocations() == lists


def test_a_peer_that_is_not_remembered_can_be_revoked(registrar: Registrar) -> None:
    """By its whole id: the key counts, not a serial number."""
    peer = peer_id_of(generate_key().public_key())
    _, lists = registrar.revoke(peer)
    assert lists.peers == {peer}


def test_naming_whom_to_revoke(registrar: Registrar) -> None:
    """By id, the beginning of one, or a name that only one member has; else the members are listed."""
    one = registrar.sign(request(), name="Ward 7")
    two, three = (registrar.sign(request(), name="Ward 8") for _ in range(2))
    resolve = registrar.issued.resolve
    assert resolve("Ward 7") == resolve(one.peer_id) == resolve(one.peer_id[:8]) == one.peer_id
    with pytest.raises(UsageError, match="2 members are called 'Ward 8'") as caught:
        resolve("Ward 8")
    assert two.peer_id[:8] in caught.value.fix
    assert three.peer_id[:8] in caught.value.fix
    for nobody in ("Ward 9", one.peer_id[:7], "", "a" * 53, "b" * 52, "\u00e9" * 52):
        with pytest.raises(UsageError, match="no member is called"):
            resolve(nobody)
    with pytest.raises(UsageError, match="is not a reason"):
        registrar.revoke(one.peer_id, reason="dislike")


def test_renewal_is_due_at_two_thirds() -> None:
    """Of 90 days 30 are left."""
    facts = facts_of_pem(sign_request(AUTHORITY, request()).chain)
    due = renewal_time(facts)
    assert timedelta(days=29) < facts.not_after - due < timedelta(days=31)
    assert renewal_due(facts, due)
    assert not renewal_due(facts, due - timedelta(seconds=1))
