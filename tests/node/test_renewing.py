"""When a daemon renews its certificate, and when its owner is warned."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from qkt_node import renewing
from qkt_node.home import Home
from qkt_node.renewing import Renewing, warnings_of
from qkt_node.trust_keeper import TrustKeeper
from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.inspection import CertificateFacts
from qkt_p2p.identity.renewal import renewal_due
from qkt_p2p.identity.revocation import Revoked, sign_revocation_list
from qkt_p2p.identity.revocations import Revocations
from qkt_p2p.identity.trust import IdentityFiles, Membership, create_identity, install_bundle
from tests.patience import patience

AUTHORITY = create_authority("fed")


def certified(home: Home, lifetime: timedelta) -> Membership:
    """Have a home certified for a time that began some minutes ago."""
    files = IdentityFiles(home.identity)
    if not files.key.exists():
        create_identity(home.identity)
    return install_bundle(
        home.identity, sign_request(AUTHORITY, files.request.read_bytes(), lifetime=lifetime).bundle
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("left", "warned"),
    [
        (timedelta(days=14, minutes=1), ""),
        (timedelta(days=13), "in 13 days"),
        (timedelta(hours=5), "5.0 hours"),
    ],
)
def test_an_owner_is_warned_fourteen_days_before(home: Home, left: timedelta, warned: str) -> None:
    """Not earlier, and with the command that helps."""
    certified(home, timedelta(days=90))
    standing = TrustKeeper(home.identity).standing
    found = warnings_of(standing, now=standing.identity.not_after - left)
    assert len(found) == bool(warned)
    assert all(warned in each and "qkt-node renew" in each for each in found)


def test_an_owner_of_a_short_certificate_is_warned_once_it_should_have_been_renewed(home: Home) -> None:
    """A certificate of a day is not complained about from its first minute on."""
    certified(home, timedelta(days=1))
    standing = TrustKeeper(home.identity).standing
    assert warnings_of(standing) == []
    assert warnings_of(standing, now=standing.identity.not_after - timedelta(hours=7))


def test_an_owner_of_a_running_node_is_told_that_it_expired_or_is_revoked(home: Home) -> None:
    """What peers hold against the node stands where its owner looks."""
    certified(home, timedelta(days=90))
    standing = TrustKeeper(home.identity).standing
    own = standing.identity
    (expired,) = warnings_of(standing, now=own.not_after + timedelta(days=1))
    assert "expired at" in expired
    assert f"qkt-node join TOKEN --home {home.root}" in expired, "`renew` would be refused by now"
    entry = Revoked(own.facts.serial, own.peer_id, "unspecified", datetime.now(UTC))
    standing.take(Revocations((sign_revocation_list(AUTHORITY, None, [entry], now=datetime.now(UTC)),)))
    (revoked,) = warnings_of(standing)
    assert "this node is revoked" in revoked


async def test_a_certificate_is_renewed_when_two_thirds_of_its_life_have_passed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures are logged and tried again; afterwards the authority is left alone."""
    certified(home, timedelta(minutes=2))
    keeper, renewed = TrustKeeper(home.identity), asyncio.Event()
    keeper.standing.watch(renewed.set)
    attempts, looks = [], asyncio.Queue[bool]()

    def look(facts: CertificateFacts, now: datetime) -> bool:
        looks.put_nowait(renewal_due(facts, now))
        return renewal_due(facts, now)

    async def renew_home(asked: Home) -> Membership:
        attempts.append(asked)
        if len(attempts) < 3:
            raise PeerUnavailableError("the authority is away", fix="qkt-node ca serve")
        return certified(asked, timedelta(days=90))

    monkeypatch.setattr(renewing, "renew_home", renew_home)
    monkeypatch.setattr(renewing, "renewal_due", look)
    with capture_logs() as logs:
        running = asyncio.create_task(Renewing(home, keeper, pauses=(0.001, 0.002)).run())
        async with patience("the certificate is renewed"):
            await renewed.wait()
        assert keeper.standing.identity.not_after > datetime.now(UTC) + timedelta(days=80)
        async with patience("it looks again"):
            assert [await looks.get() for _ in range(6)] == [True] * 3 + [False] * 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert attempts == [home] * 3
    failed = [entry for entry in logs if entry["event"] == "renewal_failed"]
    assert [(entry["error"], entry["fix"]) for entry in failed] == [
        ("the authority is away", "qkt-node ca serve")
    ] * 2


def test_a_warning_counts_days_or_hours(home: Home) -> None:
    """A last day is told in hours."""
    certified(home, timedelta(days=90))
    standing = TrustKeeper(home.identity).standing
    standing.show(replace(standing.identity))
    (warning,) = warnings_of(standing, now=standing.identity.not_after - timedelta(days=1, hours=1))
    assert "in 25.0 hours" in warning
