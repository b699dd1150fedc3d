"""What an authority remembers of its signatures: enough to revoke, and no more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qkt_p2p.errors import QktError
from qkt_p2p.identity import ledger
from qkt_p2p.identity.authority import IssuedCertificate, create_authority, save_authority, sign_request
from qkt_p2p.identity.certificates import create_request, facts_of_pem, request_der
from qkt_p2p.identity.issued import ISSUED_FILE, IssuedCertificates
from qkt_p2p.identity.keys import generate_key
from qkt_p2p.identity.registrar import Registrar
from qkt_p2p.limits import MAX_ISSUED_OF_PEER
from qkt_p2p.types import PeerId

AUTHORITY = create_authority("fed")
SAMPLE = sign_request(AUTHORITY, create_request(generate_key()))
LONG_AGO = datetime.now(UTC) - timedelta(days=181)
ANNA, BERT, CARL, DORA = (PeerId(letter * 52) for letter in "abcd")


def certificate(peer: PeerId, serial: int, end: datetime = SAMPLE.not_after) -> IssuedCertificate:
    return replace(SAMPLE, peer_id=peer, name=f"member {peer[0]}", serial=serial, not_after=end)


def record_long_ago(issued: IssuedCertificates, peer: PeerId, serial: int, *, replaces: str = "") -> None:
    issued.record(certificate(peer, serial, LONG_AGO), replaces=replaces, now=LONG_AGO)


@pytest.fixture
def issued(tmp_path: Path) -> IssuedCertificates:
    return IssuedCertificates(tmp_path)


def serials(issued: IssuedCertificates) -> list[int]:
    return [each.serial for each in issued.all()]


def test_what_expired_long_ago_is_forgotten(issued: IssuedCertificates) -> None:
    """Half a year after its end, when the next one is signed; younger ones stay, in their order."""
    record_long_ago(issued, ANNA, 1)
    record_long_ago(issued, BERT, 2)
    assert serials(issued) == [1, 2]
    issued.record(certificate(ANNA, 3))
    issued.record(certificate(CARL, 4))
    assert serials(issued) == [3, 4]


def test_what_was_revoked_is_remembered(issued: IssuedCertificates) -> None:
    """Who it was can be told for ever."""
    record_long_ago(issued, ANNA, 1)
    record_long_ago(issued, BERT, 2)
    issued.record(certificate(CARL, 3), revoked={ANNA})
    assert serials(issued) == [1, 3]
    assert issued.resolve("member a") == ANNA


def test_by_whose_key_a_member_got_in_is_remembered(issued: IssuedCertificates) -> None:
    """However often it was renewed since, and whoever stood between: a thief is found by the first key."""
    record_long_ago(issued, ANNA, 1)
    record_long_ago(issued, BERT, 2, replaces=ANNA)
    record_long_ago(issued, CARL, 3, replaces=BERT)
    record_long_ago(issued, CARL, 4, replaces=BERT)
    record_long_ago(issued, DORA, 5, replaces=ANNA)
    issued.record(certificate(CARL, 6))
    assert serials(issued) == [2, 4, 6]
    assert issued.with_successors(ANNA) == [ANNA, BERT, CARL]


@pytest.mark.parametrize("replaces", ["", BERT])
def test_one_member_cannot_fill_the_file(issued: IssuedCertificates, replaces: str) -> None:
    """Of each peer the latest are remembered, so revoking it takes that many places in the list at most."""
    issued.record(certificate(BERT, 0))
    for serial in range(1, 3 * MAX_ISSUED_OF_PEER):
        issued.record(certificate(ANNA, serial), replaces=replaces)
    assert serials(issued) == [0, *range(2 * MAX_ISSUED_OF_PEER, 3 * MAX_ISSUED_OF_PEER)]


def test_a_member_that_renewed_often_is_revoked_with_all_its_certificates(tmp_path: Path) -> None:
    """The list names its key, so those that are not remembered are no way in either."""
    save_authority(AUTHORITY, tmp_path)
    registrar, asked = Registrar(AUTHORITY, tmp_path), request_der(create_request(generate_key()))
    first = registrar.sign(asked)
    for _ in range(MAX_ISSUED_OF_PEER):
        registrar.renew(facts_of_pem(first.chain), asked)
    assert first.serial not in serials(registrar.issued)
    _, lists = registrar.revoke(first.peer_id)
    assert lists.revokes(facts_of_pem(first.chain))


def test_a_file_that_cannot_be_written_stays_as_it_was(
    issued: IssuedCertificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is forgotten goes in one step with what is added, or not at all."""
    record_long_ago(issued, ANNA, 1)
    before = (tmp_path / ISSUED_FILE).read_bytes()

    def full(path: Path, content: bytes, *, mode: int) -> None:
        raise QktError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(ledger, "save_file", full)
    with pytest.raises(QktError, match="No space left"):
        issued.record(certificate(BERT, 2))
    assert (tmp_path / ISSUED_FILE).read_bytes() == before
