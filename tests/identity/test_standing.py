"""Whom a node believes at a moment: validity, shape, federation and revocation of certificates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.authority import IssuedCertificate, create_authority, sign_request
from qkt_p2p.identity.certificates import create_request, facts_of_pem
from qkt_p2p.identity.keys import generate_key
from qkt_p2p.identity.revocation import Revoked, sign_revocation_list
from qkt_p2p.identity.revocations import Revocations
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity, IdentityFiles, create_identity, install_bundle, load_identity

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
AUTHORITY = create_authority("fed", now=NOW)
KEY = generate_key()
MEMBER = sign_request(AUTHORITY, create_request(KEY), now=NOW)
FACTS = facts_of_pem(MEMBER.chain)
RENEWED = facts_of_pem(sign_request(AUTHORITY, create_request(KEY), now=NOW).chain)


@pytest.fixture
def own(tmp_path: Path) -> Identity:
    create_identity(tmp_path)
    install_bundle(
        tmp_path,
        sign_request(AUTHORITY, IdentityFiles(tmp_path).request.read_bytes(), now=NOW).bundle,
        now=NOW,
    )
    return load_identity(tmp_path, now=NOW)


def at(own: Identity, now: datetime) -> Standing:
    return Standing(own, clock=lambda: now)


def lists(issued: IssuedCertificate, *, by_peer: bool = True) -> Revocations:
    """Return lists that revoke one certificate, and where asked for its key too."""
    entry = Revoked(issued.serial, issued.peer_id if by_peer else None, "key-compromise", NOW)
    return Revocations((sign_revocation_list(AUTHORITY, None, [entry], now=NOW),))


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (FACTS.not_before, ""),
        (FACTS.not_after, ""),
        (FACTS.not_before - timedelta(seconds=1), "is valid only from 2026-07-01 11:55 UTC on .*clocks"),
        (FACTS.not_after + timedelta(seconds=1), "expired at 2026-09-29 12:00 UTC .*by this node's clock"),
    ],
)
def test_a_certificate_holds_from_its_first_to_its_last_second(
    own: Identity, now: datetime, problem: str
) -> None:
    """Outside of that its holder is refused, and both clocks are named."""
    standing = at(own, now)
    if problem:
        with pytest.raises(NotTrustedError, match=problem):
            standing.admit(FACTS)
    else:
        standing.admit(FACTS)
    assert standing.seconds_left(FACTS) == (FACTS.not_after - now).total_seconds()


def test_what_no_member_has_is_refused(own: Identity) -> None:
    """The certificate's own mistakes, and a federation that is not this one, are reasons too."""
    for changed, reason in (
        (replace(FACTS, problems=("it is an authority's",)), "it is an authority's"),
        (replace(FACTS, federation="other"), "member of 'other', not of 'fed'"),
    ):
        with pytest.raises(NotTrustedError, match=reason):
            at(own, NOW).admit(changed)


def test_an_expired_certificate_is_called_expired_before_revoked(own: Identity) -> None:
    """The first reason is the one that its holder can mend."""
    standing = at(own, FACTS.not_after + timedelta(days=1))
    standing.take(lists(MEMBER))
    assert "expired" in standing.problem(FACTS)


@pytest.mark.parametrize("by_peer", [True, False], ids=["key", "certificate"])
def test_a_revoked_member_is_refused_from_then_on(own: Identity, by_peer: bool) -> None:
    """By its key with every certificate; by a certificate alone with that one."""
    standing = at(own, NOW)
    standing.admit(FACTS)
    assert standing.revoked() == frozenset()
    standing.take(lists(MEMBER, by_peer=by_peer))
    assert standing.revoked() == {FACTS.peer_id}
    with pytest.raises(NotTrustedError, match="is revoked: it is no longer a member of 'fed'"):
        standing.admit(FACTS)
    if by_peer:
        assert standing.problem(RENEWED)
    else:
        standing.admit(RENEWED)
        assert standing.revoked() == frozenset()


@pytest.mark.parametrize(
    ("now", "reason", "fix"),
    [
        (FACTS.not_before, "", ""),
        (FACTS.not_before - timedelta(hours=1), "is valid only from 2026-07-01 11:55 UTC on", "clock"),
        (
            FACTS.not_after + timedelta(hours=1),
            "this node's certificate expired at 2026-09-29 12:00 UTC .now 2026-09-29 13:00 UTC",
            "qkt-node join TOKEN --home ",
        ),
    ],
)
def test_a_node_knows_that_nobody_takes_its_own_certificate(
    own: Identity, now: datetime, reason: str, fix: str
) -> None:
    """And how its owner mends it; peers end the handshake without a word."""
    standing = at(own, now)
    if not reason:
        standing.require_own()
        return
    with pytest.raises(NotTrustedError, match=reason) as refused:
        standing.require_own()
    assert fix in refused.value.fix


def test_whoever_watches_is_told_of_each_change(own: Identity) -> None:
    """New lists, a new identity, and the return of a member whose certificate alone was revoked."""
    standing, seen = at(own, NOW), list[int]()
    standing.watch(lambda: seen.append(standing.revocations.digest))
    standing.admit(FACTS)
    assert seen == []
    standing.take(lists(MEMBER, by_peer=False))
    standing.show(own)
    standing.admit(RENEWED)
    assert seen == [standing.revocations.digest] * 3


def test_the_certificate_that_was_verified_last_is_remembered(own: Identity) -> None:
    """Owners see until when a peer is certified, and nothing of whom was refused."""
    standing = at(own, NOW)
    assert standing.certificate_of(FACTS.peer_id) is None
    standing.admit(FACTS)
    standing.admit(RENEWED)
    assert standing.certificate_of(FACTS.peer_id) is RENEWED


def test_certificates_of_few_peers_are_remembered(own: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest unseen one makes room."""
    monkeypatch.setattr("qkt_p2p.identity.standing.MAX_PEERS", 1)
    standing = at(own, NOW)
    standing.admit(FACTS)
    standing.admit(own.facts)
    assert standing.certificate_of(FACTS.peer_id) is None
    assert standing.certificate_of(own.peer_id) is own.facts


def test_the_digest_of_lists_tells_versions_apart() -> None:
    """Nothing held is 0; what is held depends on the authority and the version alone."""
    first = lists(MEMBER)
    again = lists(MEMBER)
    next_one = Revocations((sign_revocation_list(AUTHORITY, first.lists[0], [], now=NOW),))
    assert Revocations().digest == 0
    assert 0 < first.digest == again.digest != next_one.digest < 2**64
