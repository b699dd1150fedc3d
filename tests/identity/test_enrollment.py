"""How a joining machine knows the authority: by the token's root, and by nothing else."""

from datetime import UTC, datetime, timedelta

import pytest

from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.authority import Authority, create_authority, sign_request
from qkt_p2p.identity.certificates import create_request, diagnose
from qkt_p2p.identity.enrollment import check_service, create_service_certificate, enrollment_uri
from qkt_p2p.identity.keys import generate_key, parse_spiffe_uri

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
AUTHORITY, OTHER = create_authority("fed", now=NOW), create_authority("fed", now=NOW)
ELSEWHERE = create_authority("elsewhere", now=NOW)
SERVICE = create_service_certificate(AUTHORITY, now=NOW)


def check(
    certificate: bytes = SERVICE.certificate,
    roots: bytes = AUTHORITY.roots,
    root: str = AUTHORITY.fingerprint,
    now: datetime = NOW,
) -> None:
    check_service(certificate, roots, federation="fed", root=root, now=now)


def test_the_authority_of_the_token_is_accepted() -> None:
    """Also where it hands out another root too."""
    check()
    check(roots=OTHER.roots + AUTHORITY.roots)
    assert SERVICE.due < NOW + timedelta(days=7)


@pytest.mark.parametrize(
    ("roots", "authority", "sentence"),
    [
        (OTHER.roots, OTHER, "is not the authority that made the token"),
        (AUTHORITY.roots, OTHER, "is not signed by the token's root"),
        (AUTHORITY.roots, ELSEWHERE, "not of the enrolment service of 'fed'"),
        (b"", AUTHORITY, "holds no readable PEM certificate"),
    ],
)
def test_somebody_else_is_refused(roots: bytes, authority: Authority, sentence: str) -> None:
    """Whoever shows another root, or the true root (which everybody can have) and another certificate."""
    with pytest.raises(NotTrustedError, match=sentence):
        check(create_service_certificate(authority, now=NOW).certificate, roots)


def test_a_member_cannot_pose_as_the_authority() -> None:
    """Its certificate is of the right root, and of the wrong kind."""
    issued = sign_request(AUTHORITY, create_request(generate_key()), now=NOW)
    with pytest.raises(NotTrustedError, match="not of the enrolment service"):
        check(issued.chain)
    with pytest.raises(NotTrustedError, match="not of the enrolment service"):
        check(AUTHORITY.roots)


def test_the_authoritys_service_cannot_pose_as_a_member() -> None:
    """Its name is of no peer."""
    with pytest.raises(NotTrustedError):
        parse_spiffe_uri(enrollment_uri("fed"))
    problems = diagnose(SERVICE.certificate, AUTHORITY.roots, key=generate_key(), now=NOW)
    assert any("names no peer" in problem for problem in problems)


def test_times_are_checked() -> None:
    """A certificate that leaked is of use for a week."""
    with pytest.raises(NotTrustedError, match="expired"):
        check(now=NOW + timedelta(days=8))
    with pytest.raises(NotTrustedError, match="check the clocks"):
        check(now=NOW - timedelta(days=1))


def test_a_token_of_a_root_of_another_federation_is_refused() -> None:
    """Name and root of a token must belong together."""
    service = create_service_certificate(ELSEWHERE, now=NOW).certificate
    with pytest.raises(NotTrustedError, match="no root of federation 'fed'"):
        check(service, ELSEWHERE.roots, ELSEWHERE.fingerprint)
