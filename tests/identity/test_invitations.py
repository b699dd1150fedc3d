"""Invitations: who may use one, how often, for how long; and what is on disk when."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.errors import ConfigError, NotTrustedError, UsageError
from qkt_p2p.identity.certificates import create_request, parse_request, request_der
from qkt_p2p.identity.enrollment import is_proven, prove
from qkt_p2p.identity.invitations import INVITATIONS_FILE, Invitation, Invitations
from qkt_p2p.identity.keys import generate_key, peer_id_of
from qkt_p2p.limits import MAX_INVITATION_USES, MAX_INVITATIONS

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def request() -> bytes:
    return request_der(create_request(generate_key()))


def claim(invitations: Invitations, invitation: Invitation, asked: bytes, now: datetime = NOW) -> Invitation:
    return invitations.claim(invitation.id, prove(invitation.secret, asked), asked, now=now)


def test_an_invitation_gives_its_name_and_roles_once(tmp_path: Path) -> None:
    """The first machine gets in, the second is told that the token was used."""
    made = Invitations(tmp_path).issue(name="Ward 7", roles=["teacher"], lifetime=DAY, now=NOW)
    asked = request()
    claimed = claim(Invitations(tmp_path), made, asked)
    assert (claimed.name, claimed.roles, claimed.uses_left) == ("Ward 7", ("teacher",), 0)
    assert claimed.members == (peer_id_of(parse_request(asked)),)
    with pytest.raises(NotTrustedError, match="used already"):
        claim(Invitations(tmp_path), made, request())


def test_the_same_key_may_come_again(tmp_path: Path) -> None:
    """An answer that is lost on the way does not cost a use."""
    made, asked = Invitations(tmp_path).issue(lifetime=DAY, uses=2, now=NOW), request()
    for _ in range(3):
        assert claim(Invitations(tmp_path), made, asked).uses_left == 1


def test_an_invitation_ends(tmp_path: Path) -> None:
    """At its expiry, to the second; later it is forgotten when the next one is made."""
    invitations = Invitations(tmp_path)
    made, asked = invitations.issue(lifetime=DAY, now=NOW), request()
    with pytest.raises(NotTrustedError, match="expired at 2026-07-02 12:00 UTC"):
        claim(invitations, made, asked, NOW + DAY)
    assert claim(invitations, made, asked, NOW + DAY - timedelta(seconds=1))
    invitations.issue(lifetime=DAY, now=NOW + 6 * DAY)
    assert invitations.find(made.id) is not None
    invitations.issue(lifetime=DAY, now=NOW + 9 * DAY)
    assert invitations.find(made.id) is None
    with pytest.raises(NotTrustedError, match="does not know this invitation"):
        claim(invitations, made, asked)


@given(st.binary(max_size=64), st.binary(min_size=1, max_size=64))
def test_a_proof_is_of_one_secret_and_one_request(secret: bytes, asked: bytes) -> None:
    """Changing any of them makes the proof wrong."""
    proof = prove(secret, asked)
    assert is_proven(proof, secret, asked)
    assert not is_proven(proof, secret + b"x", asked)
    assert not is_proven(proof, secret, asked + b"x")
    assert not is_proven(proof[:-1], secret, asked)


def test_a_wrong_proof_takes_no_use_and_learns_nothing(tmp_path: Path) -> None:
    """Whoever does not hold the secret is not told that the invitation has expired."""
    invitations = Invitations(tmp_path)
    made, asked = invitations.issue(lifetime=DAY, now=NOW), request()
    for proof in (b"", prove(made.secret, request()), bytes(32)):
        with pytest.raises(NotTrustedError, match="the proof does not fit"):
            invitations.claim(made.id, proof, asked, now=NOW + 2 * DAY)
    assert invitations.find(made.id) == made


def test_a_proven_request_that_is_none_takes_no_use(tmp_path: Path) -> None:
    """The holder of a token cannot have anything signed but a request."""
    invitations = Invitations(tmp_path)
    made = invitations.issue(lifetime=DAY, now=NOW)
    with pytest.raises(NotTrustedError, match="request cannot be read"):
        claim(invitations, made, b"no request")
    assert invitations.find(made.id) == made


def test_two_at_once_do_not_share_one_use(tmp_path: Path) -> None:
    """Of many machines that come at the same moment exactly as many get in as were invited."""
    made = Invitations(tmp_path).issue(lifetime=DAY, uses=3, now=NOW)
    requests = [request() for _ in range(8)]
    outcomes: list[bool] = []
    barrier = threading.Barrier(len(requests))

    def come(asked: bytes) -> None:
        barrier.wait()
        try:
            claim(Invitations(tmp_path), made, asked)
        except NotTrustedError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=come, args=(asked,)) for asked in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True] * 3


@pytest.mark.parametrize(
    ("lifetime", "uses"),
    [(timedelta(0), 1), (timedelta(days=31), 1), (DAY, 0), (DAY, MAX_INVITATION_USES + 1)],
)
def test_bounds(tmp_path: Path, lifetime: timedelta, uses: int) -> None:
    """No invitation for ever, none for everybody."""
    with pytest.raises(UsageError, match="an invitation"):
        Invitations(tmp_path).issue(lifetime=lifetime, uses=uses)


def test_the_file_is_private_and_capped(tmp_path: Path) -> None:
    """It holds secrets; and it does not grow without end."""
    invitations = Invitations(tmp_path)
    invitations.issue(lifetime=DAY, now=NOW)
    path = tmp_path / INVITATIONS_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes() * MAX_INVITATIONS)
    with pytest.raises(UsageError, match=f"{MAX_INVITATIONS} invitations"):
        invitations.issue(lifetime=DAY, now=NOW)


@pytest.mark.parametrize(
    "damage",
    [b"{}\n", b"[]\n", b"\xff\n", b'{"id": "', b'{"id": "a", "secret": 7}\n', b"[" * 5000 + b"\n"],
)
def test_a_damaged_file_is_told(tmp_path: Path, damage: bytes) -> None:
    """With its line; nothing is overwritten."""
    invitations = Invitations(tmp_path)
    invitations.issue(lifetime=DAY, now=NOW)
    path = tmp_path / INVITATIONS_FILE
    path.write_bytes(path.read_bytes() + damage)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is damaged in line 2"):
        invitations.issue(lifetime=DAY, now=NOW)
    assert path.read_bytes() == before
