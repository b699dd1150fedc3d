"""`join`: makes a node a member of a federation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.errors import UsageError

if TYPE_CHECKING:
    from qkt_p2p.identity.trust import Membership


def join(
    output: Output,
    home: HomeOption,
    token: Annotated[str, typer.Argument(help="Token of `qkt-node invite`.", show_default=False)] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token, which other users cannot see then.", show_default=False),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Instead of a token: the bundle that `ca sign` wrote.", show_default=False),
    ] = None,
) -> Answer:
    """Join a federation: with a token, or by files with the bundle of its authority."""
    given = [each for each in (token, token_file, certificate) if each]
    if len(given) != 1:
        raise UsageError(
            "give a token, or --token-file, or --certificate: one of them",
            fix="qkt-node join TOKEN --home DIR",
        )
    if certificate is not None:
        member = _join_by_files(home, certificate)
    else:
        member = _join_by_token(home, token, token_file)
    return membership_answer(member, home)


def _join_by_files(home: Path, certificate: Path) -> "Membership":
    from qkt_node.home import open_home
    from qkt_p2p.identity.certificates import BUNDLE_WANTED
    from qkt_p2p.identity.files import load_file
    from qkt_p2p.identity.trust import install_bundle

    bundle = load_file(certificate, fix=BUNDLE_WANTED)
    return install_bundle(open_home(home).identity, bundle)


def _join_by_token(home: Path, token: str, token_file: Path | None) -> "Membership":
    from qkt_node.log import configure_logging  # isort: skip - first, see there

    from qkt_node.enrollment import join_home
    from qkt_p2p.identity.files import load_file
    from qkt_p2p.identity.tokens import decode_token

    configure_logging("auto", "error")
    if token_file:
        line = load_file(token_file, fix="give the file with the line that `qkt-node invite` printed")
        token = line.decode("ascii", "replace")
    return run(join_home(home, decode_token(token)))


def membership_answer(member: "Membership", home: Path) -> Answer:
    """Return what a node is now, with what its owner and the authority's can compare."""
    from qkt_node.cli.reload import reload_daemon
    from qkt_p2p.identity.keys import short_fingerprint

    fingerprint = short_fingerprint(member.peer_id)
    roles = f" with roles {', '.join(member.roles)}" if member.roles else ""
    return Answer(
        {
            "home": str(home.absolute()),
            "peer_id": member.peer_id,
            "name": member.name,
            "roles": list(member.roles),
            "fingerprint": fingerprint,
            "federation": member.federation,
            "federation_fingerprints": list(member.fingerprints),
            "not_after": member.not_after.isoformat(),
        },
        [
            f"{member.name} is a member of federation {member.federation}{roles}: peer {member.peer_id}",
            f"compare with the authority's owner: this machine's key is {fingerprint}, "
            f"the federation's root is {' and '.join(member.fingerprints)}",
            f"the certificate is valid until {member.not_after:%Y-%m-%d %H:%M} UTC",
            reload_daemon(home),
        ],
    )
