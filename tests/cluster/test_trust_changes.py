"""What changes in who is trusted while daemons run: renewal, a new key, a revocation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qkt_node.cluster.create import ClusterPlan
from qkt_node.cluster.layout import ClusterFolder
from qkt_node.home import Home
from qkt_p2p.identity.authority import create_authority, load_authority, save_authority, sign_request
from qkt_p2p.identity.files import load_file
from qkt_p2p.identity.registrar import REVOKED_FILE, Registrar
from qkt_p2p.identity.renewal import save_renewal_addresses
from qkt_p2p.identity.trust import IdentityFiles, begin_rotation, install_bundle, load_identity
from qkt_p2p.types import PeerId, short
from tests.cluster.local_cluster import (
    LocalCluster,
    WatchedQuery,
    ask,
    command,
    log_events,
    qkt,
    running,
    running_cluster,
    wait_until,
)

PLAN = ClusterPlan(nodes=4, classes_per_node=5, source="digits", model="mlp", seed=3, samples_per_class=20)
ASKER, TEACHER, WITNESS, OUTCAST = "node-1", "node-2", "node-3", "node-4"


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Four nodes, of which the tests change the certificates of two and revoke one."""
    folder = ClusterFolder(tmp_path_factory.mktemp("changing") / "cluster")
    with running_cluster(folder, PLAN) as cluster:
        yield cluster


def taught_by(cluster: LocalCluster, teacher: str) -> str:
    """Return a class that the asker lacks and the teacher has."""
    return next(
        name
        for node in cluster.plan.nodes
        if node.name == teacher
        for name in node.classes
        if name in cluster.plan.lacking(ASKER)
    )


def states(home: Home) -> dict[str, str]:
    """Return what a daemon shows of each peer, by id."""
    answer = ask(home, lambda client: client.peers())
    assert answer is not None
    return {peer.peer_id: peer.state for peer in answer.peers}


def wait_until_shown(home: Home, peer: PeerId, state: str, *, seconds: float) -> None:
    """Return when a daemon shows a peer in that state."""
    wait_until(lambda: states(home).get(peer) == state, f"{short(peer)} is {state}", seconds=seconds)


def certified_until(home: Home) -> datetime:
    status = ask(home, lambda client: client.status())
    assert status is not None
    return datetime.fromtimestamp(status.certificate_not_after, UTC)


def witnessed_until(cluster: LocalCluster, name: str) -> datetime:
    """Return the end of a node's certificate as a live peer of it shows that."""
    answer = ask(cluster.home(WITNESS), lambda client: client.peers())
    assert answer is not None
    (seen,) = (peer for peer in answer.peers if peer.node_name == name and peer.state == "live")
    return datetime.fromtimestamp(seen.certificate_not_after, UTC)


def renew(cluster: LocalCluster, name: str, lifetime: timedelta) -> None:
    """Have a node certified anew, by files, and its daemon told so."""
    home = cluster.home(name)
    authority = load_authority(cluster.folder.authority)
    request = load_file(IdentityFiles(home.identity).request)
    install_bundle(home.identity, sign_request(authority, request, lifetime=lifetime).bundle)
    assert ask(home, lambda client: client.reload_trust()) is not None


def test_certificates_are_renewed_during_a_query(changing: LocalCluster) -> None:
    """Of the asker and of a teacher, while the one probes the other: the query ends accepted."""
    asked = taught_by(changing, TEACHER)
    with WatchedQuery(changing.home(ASKER), "--classes", asked, "--trial") as query:
        query.wait_for("probe")
        renew(changing, TEACHER, timedelta(days=30))
        renew(changing, ASKER, timedelta(days=30))
        ended = query.end()
    assert ended.data["outcome"] == "accepted", ended.envelope
    assert {each["name"]: each["used"] for each in ended.data["teachers"]}[TEACHER]
    soon = datetime.now(UTC) + timedelta(days=31)
    assert max(certified_until(changing.home(name)) for name in (ASKER, TEACHER)) < soon
    wait_until(lambda: witnessed_until(changing, ASKER) < soon, "a peer sees the new certificate", seconds=10)


def test_a_key_is_changed_during_a_query(changing: LocalCluster) -> None:
    """The query ends accepted; the node is another peer from then on, and the old one says goodbye."""
    home, witness = changing.home(TEACHER), changing.home(WITNESS)
    before = load_identity(home.identity).peer_id
    asked = taught_by(changing, TEACHER)
    with WatchedQuery(changing.home(ASKER), "--classes", asked, "--trial") as query:
        query.wait_for("collect")
        after = begin_rotation(home.identity)
        request = load_file(IdentityFiles(home.identity).next.request)
        bundle = sign_request(load_authority(changing.folder.authority), request).bundle
        path = changing.folder.root / "next.pem"
        path.write_bytes(bundle)
        joined = qkt("join", "--home", home.root, "--certificate", path)
        ended = query.end()
    assert joined.data["peer_id"] == after
    assert ended.data["outcome"] == "accepted", ended.envelope
    for each in (witness, changing.home(ASKER)):
        wait_until_shown(each, after, "live", seconds=10)
        wait_until_shown(each, before, "draining", seconds=10)


def test_a_revoked_peer_is_out_everywhere_within_seconds(changing: LocalCluster) -> None:
    """One node is told by its owner; the others hear it from beats, and nobody talks to the outcast."""
    outcast = load_identity(changing.home(OUTCAST).identity).peer_id
    others = [changing.home(name) for name in (ASKER, TEACHER, WITNESS)]
    directory = changing.folder.authority
    Registrar(load_authority(directory), directory).revoke(outcast)
    told = qkt("revoke", "--install", directory / REVOKED_FILE, "--home", others[0].root)
    assert told.data["revoked"] == [outcast]
    for home in others:
        wait_until_shown(home, outcast, "revoked", seconds=5)
    wait_until(lambda: "live" not in states(changing.home(OUTCAST)).values(), "it is alone", seconds=15)
    reasons = {each["reason"] for home in others for each in log_events(home, "call_refused")}
    assert any(short(outcast) in each and "is revoked" in each for each in reasons)
    assert outcast in qkt("status", "--home", others[1].root).data["revoked"]
    _stays_out(others, outcast)


def _stays_out(others: list[Home], outcast: PeerId) -> None:
    """A daemon that starts later knows it from its disk, and from nobody."""
    for home in others:
        assert outcast in qkt("status", "--home", home.root).data["revoked"]
        assert (home.identity / REVOKED_FILE).read_bytes().startswith(b"-----BEGIN X509 CRL")


@contextmanager
def serving_authority(folder: Path) -> Iterator[str]:
    """Run an authority, and yield where members renew."""
    process = subprocess.Popen(
        [*command("ca", "serve", "--home", folder, "--listen", "127.0.0.1:0"), "--format", "jsonl"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        renewal: str = json.loads(process.stdout.readline())["renewal"][0]
        yield renewal
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_daemon_renews_its_own_certificate(home: Home, tmp_path: Path) -> None:
    """At the authority that it joined at, when two thirds of the certificate's life have passed."""
    authority = create_authority("elsewhere")
    save_authority(authority, tmp_path / "ca" / "authority")
    files = IdentityFiles(home.identity)
    for stale in (files.certificate, files.roots):
        stale.unlink()
    request = load_file(files.request)
    install_bundle(home.identity, sign_request(authority, request, lifetime=timedelta(minutes=2)).bundle)
    with serving_authority(tmp_path / "ca") as renewal:
        save_renewal_addresses(files, (renewal,))
        with running(home):
            assert certified_until(home) < datetime.now(UTC) + timedelta(minutes=2)
            wait_until(
                lambda: certified_until(home) > datetime.now(UTC) + timedelta(days=89), "it is renewed"
            )
            assert qkt("status", "--home", home.root).data["warnings"] == []


def test_an_owner_is_warned_of_an_expiry(home: Home) -> None:
    """At the start and in the status, where the authority cannot be asked."""
    files = IdentityFiles(home.identity)
    for stale in (files.certificate, files.roots):
        stale.unlink()
    soon = sign_request(
        create_authority("elsewhere"), load_file(files.request), lifetime=timedelta(minutes=2)
    )
    install_bundle(home.identity, soon.bundle)
    with running(home):
        (warning,) = qkt("status", "--home", home.root).data["warnings"]
        assert "expires at" in warning
        failed = wait_until(lambda: log_events(home, "renewal_failed"), "the renewal failed")
        assert "where its authority renews" in failed[0]["error"]
    assert f"warning: {warning[:40]}" in (home.root / "logs" / "daemon.log").read_text()
