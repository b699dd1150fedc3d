"""What a node holds once it joined a federation, and who a certificate's URI says it is.

Trust fails closed: without a key, a certificate that peers accept, and roots, there is no `Identity`,
and without one nothing listens or dials.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from qkt_p2p.commands import command
from qkt_p2p.errors import ConfigError, NotTrustedError
from qkt_p2p.identity.certificates import (
    create_request,
    diagnose,
    inspect_chain,
    root_fingerprints,
    split_bundle,
)
from qkt_p2p.identity.files import load_file, make_private_directory, save_file
from qkt_p2p.identity.keys import (
    dns_name_of,
    encode_key,
    generate_key,
    load_key,
    parse_spiffe_uri,
    peer_id_of,
    save_key,
)
from qkt_p2p.identity.renewal import finish_rotation
from qkt_p2p.identity.revocations import load_revocations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.identity.keys import PrivateKey
    from qkt_p2p.types import PeerId


JOINING_ANEW: Final = (
    "ask the authority's owner why; to join again: a new home (qkt-node init) and a new token"
)
"""What a node does whose key is revoked."""


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """The files of a home's identity/ directory."""

    directory: Path

    @property
    def key(self) -> Path:
        """The private key, PEM, mode 0600."""
        return self.directory / "key.pem"

    @property
    def request(self) -> Path:
        """The certificate request for an authority to sign, PEM."""
        return self.directory / "request.pem"

    @property
    def certificate(self) -> Path:
        """The certificate and its intermediates, PEM; missing until the node joins."""
        return self.directory / "certificate.pem"

    @property
    def roots(self) -> Path:
        """The federation's root certificates, PEM; missing until the node joins."""
        return self.directory / "roots.pem"

    @property
    def enrollment(self) -> Path:
        """Where the authority renews certificates, JSON; missing where it does so by files only."""
        return self.directory / "enrollment.json"

    @property
    def revoked(self) -> Path:
        """The revocation lists that this node heard of, PEM; missing until it hears of one."""
        return self.directory / "revoked.pem"

    @property
    def next(self) -> IdentityFiles:
        """The key that will take the place of this one, its request, and its certificate and roots."""
        return IdentityFiles(self.directory / "next")


@dataclass(frozen=True, slots=True)
class Identity:
    """A member of a federation: who it is and what it shows to prove it. Bytes are PEM, times UTC."""

    peer_id: PeerId
    federation: str
    facts: CertificateFacts = field(repr=False)
    dns_name: str
    certificate_chain: bytes = field(repr=False)
    private_key: bytes = field(repr=False)
    roots: bytes = field(repr=False)
    not_after: datetime
    files: IdentityFiles


@dataclass(frozen=True, slots=True)
class Membership:
    """What `install_bundle` put in place; `fingerprints` are those of the federation's roots."""

    peer_id: PeerId
    federation: str
    name: str
    roles: tuple[str, ...]
    fingerprints: tuple[str, ...]
    not_after: datetime


def create_identity(directory: Path) -> PeerId:
    """Make a key and a request in `directory`, or keep a key that is there; return the peer id."""
    files = IdentityFiles(directory)
    make_private_directory(directory)
    if files.key.exists():
        key = load_key(files.key)
    else:
        key = generate_key()
        save_key(key, files.key)
    save_file(files.request, create_request(key))
    return peer_id_of(key.public_key())


def load_identity(directory: Path, *, now: datetime | None = None) -> Identity:
    """Read the identity in a home's identity/ directory.

    Raises ConfigError where a file is missing, damaged or open to other users, NotTrustedError where
    peers would refuse the certificate: all reasons in one message.
    """
    files = IdentityFiles(directory)
    finish_rotation(files)
    key = _load_home_key(files)
    if not files.certificate.exists() or not files.roots.exists():
        raise ConfigError(
            f"{directory} holds no certificate: this node has not joined a federation",
            fix=f"{command('join', 'TOKEN', '--home', directory.parent)}; or {_by_files(files)}",
        )
    chain, roots = load_file(files.certificate), load_file(files.roots)
    facts = _check(chain, roots, key=key, now=now, fix=rejoining(files))
    if load_revocations(files.revoked, roots).revokes(facts):
        raise NotTrustedError(
            f"peer {facts.peer_id} is revoked: no member of federation {facts.federation} talks to it",
            fix=JOINING_ANEW,
        )
    return Identity(
        peer_id=facts.peer_id,
        federation=facts.federation,
        facts=facts,
        dns_name=dns_name_of(facts.peer_id),
        certificate_chain=chain,
        private_key=encode_key(key),
        roots=roots,
        not_after=facts.not_after,
        files=files,
    )


def install_bundle(directory: Path, bundle: bytes, *, now: datetime | None = None) -> Membership:
    """Put a bundle made by an authority in place, or raise and leave everything as it was.

    A certificate for the key that waits to take this one's place puts that key in place too.
    Raises NotTrustedError where the certificate is not of this home's key, would be refused by the
    bundle's own roots, or is of another federation than the one this home is a member of.
    """
    files = IdentityFiles(directory)
    finish_rotation(files)
    chain, roots = split_bundle(bundle)
    target = files.next if _is_of_next_key(files, chain) else files
    facts = _check(chain, roots, key=_load_home_key(target), now=now, fix=rejoining(target))
    if files.roots.exists():
        _check_same_federation(load_file(files.roots), roots, home=directory.parent)
    save_file(target.roots, roots)
    save_file(target.certificate, chain)
    finish_rotation(files)
    return Membership(
        peer_id=facts.peer_id,
        federation=facts.federation,
        name=facts.name,
        roles=facts.roles,
        fingerprints=tuple(root_fingerprints(roots)),
        not_after=facts.not_after,
    )


def begin_rotation(directory: Path) -> PeerId:
    """Make a key and a request that wait to take the place of those in use; return the new peer id.

    A key that waits already is kept, so that an interrupted rotation goes on where it was.
    """
    return create_identity(IdentityFiles(directory).next.directory)


def rejoining(files: IdentityFiles) -> str:
    """Return what a node does whose certificate nobody takes any more: `renew` would be refused too."""
    home = files.directory.parent
    return (
        "ask your authority for a new token (qkt-node invite), "
        f"then {command('join', 'TOKEN', '--home', home)}; or {_by_files(files)}"
    )


def _by_files(files: IdentityFiles) -> str:
    """Return what a node does to get a certificate without a connection to its authority."""
    joining = command("join", "--home", files.directory.parent, "--certificate", "BUNDLE")
    return f"have {files.request} signed (qkt-node ca sign), then {joining}"


def peer_from_uris(uris: Sequence[str], federation: str) -> PeerId:
    """Return who the URIs of a verified certificate name; raises NotTrustedError.

    Exactly one URI is accepted, and only of `federation`. The certificate's chain is TLS's to verify.
    """
    if len(uris) != 1:
        raise NotTrustedError(f"a peer's certificate must name exactly one URI, and names {len(uris)}")
    named, peer = parse_spiffe_uri(uris[0])
    if named != federation:
        raise NotTrustedError(f"peer {peer} is a member of federation {named!r}, not of {federation!r}")
    return peer


def _is_of_next_key(files: IdentityFiles, chain: bytes) -> bool:
    if not files.next.key.exists():
        return False
    return inspect_chain(chain).peer_id == peer_id_of(load_key(files.next.key).public_key())


def _load_home_key(files: IdentityFiles) -> PrivateKey:
    anew = command("join", "TOKEN", "--home", "OTHER_DIR")
    return load_key(files.key, fix=f"restore it from a copy, or join anew: {anew}")


def _check(
    chain: bytes, roots: bytes, *, key: PrivateKey, now: datetime | None, fix: str
) -> CertificateFacts:
    problems = diagnose(chain, roots, key=key, now=now or datetime.now(UTC))
    if problems:
        raise NotTrustedError(f"peers would refuse the certificate: {'; '.join(problems)}", fix=fix)
    return inspect_chain(chain)


def _check_same_federation(installed: bytes, offered: bytes, *, home: Path) -> None:
    """Refuse roots of which this home trusts none yet; a federation that replaces its root sends both."""
    trusted, new = root_fingerprints(installed), root_fingerprints(offered)
    if set(trusted).isdisjoint(new):
        raise NotTrustedError(
            f"{home} is a member of the federation with root {' or '.join(trusted)}; "
            f"the bundle is of another, with root {' or '.join(new)}",
            fix="qkt-node init --home OTHER_DIR: a node is a member of one federation",
        )
