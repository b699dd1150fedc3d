"""`revoke`: ends a membership."""

from pathlib import Path
from typing import Annotated

import typer

from qkt_node.cli.authority import PassphraseFileOption, authority_in, open_registrar
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.errors import UsageError


def revoke(
    output: Output,
    home: HomeOption,
    peer: Annotated[
        str, typer.Argument(help="Peer id, its first 8 characters, or name.", show_default=False)
    ] = "",
    reason: Annotated[
        str, typer.Option(help="Why, as RFC 5280 counts: key-compromise, privilege-withdrawn, ...")
    ] = "unspecified",
    install: Annotated[
        Path | None,
        typer.Option(
            help="Instead of PEER, at a node: the list that the authority wrote.", show_default=False
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> Answer:
    """Revoke a peer at the authority's home, or install the authority's list at a node's."""
    if bool(peer) == (install is not None):
        raise UsageError(
            "give a peer to revoke, or --install: one of them",
            fix="qkt-node revoke PEER --home CA_DIR",
        )
    return _revoke(home, peer, reason, passphrase_file) if install is None else _install(home, install)


def _revoke(home: Path, peer: str, reason: str, passphrase_file: Path | None) -> Answer:
    from qkt_p2p.identity.registrar import REVOKED_FILE
    from qkt_p2p.types import short

    registrar = open_registrar(home, passphrase_file)
    peers, lists = registrar.revoke(peer, reason=reason)
    path = authority_in(home) / REVOKED_FILE
    shown = ", ".join(map(short, peers))
    return Answer(
        {"revoked": peers, "reason": reason, "file": str(path), "versions": lists.versions},
        [
            f"revoked {shown}: {path} says so, and whoever renews from now on hears of it",
            f"next, at a node, with a copy of {path}: qkt-node revoke --install FILE --home HOME",
        ],
    )


def _install(home: Path, path: Path) -> Answer:
    from qkt_node.cli.reload import reload_daemon
    from qkt_node.home import open_home
    from qkt_p2p.identity.files import load_file
    from qkt_p2p.identity.revocation import LIST_WANTED
    from qkt_p2p.identity.revocations import install_revocations
    from qkt_p2p.identity.trust import IdentityFiles
    from qkt_p2p.limits import MAX_REVOCATION_BYTES
    from qkt_p2p.types import short

    files = IdentityFiles(open_home(home).identity)
    roots = load_file(files.roots, fix="this home has joined no federation: qkt-node join TOKEN --home HOME")
    lists = load_file(path, fix=LIST_WANTED, limit=MAX_REVOCATION_BYTES)
    held, newer = install_revocations(files.revoked, roots, lists)
    peers = sorted(held.peers)
    certificates = sum(len(each.entries) for each in held.lists)
    done = "installed" if newer else "nothing in it is newer than what this node has: kept that"
    return Answer(
        {
            "installed": newer,
            "revoked": peers,
            "revoked_certificates": certificates,
            "versions": held.versions,
        },
        [
            f"{done}; certificates revoked: {certificates}; peers: {', '.join(map(short, peers)) or '-'}",
            reload_daemon(home),
        ],
    )
