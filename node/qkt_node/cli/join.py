"""`join`: makes a node a member of a federation."""

from pathlib import Path
from typing import Annotated

import typer

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.verbs import HomeOption


def join(
    output: Output,
    home: HomeOption,
    certificate: Annotated[Path, typer.Option(help="The bundle that `ca sign` wrote.", show_default=False)],
) -> Answer:
    """Join a federation with the bundle of its authority."""
    from qkt_node.home import open_home
    from qkt_p2p.identity.files import load_file
    from qkt_p2p.identity.trust import install_bundle

    opened = open_home(home)
    member = install_bundle(
        opened.identity, load_file(certificate, fix="give the file that `qkt-node ca sign` wrote")
    )
    return Answer(
        {
            "home": str(opened.root),
            "peer_id": member.peer_id,
            "federation": member.federation,
            "federation_fingerprints": list(member.fingerprints),
            "not_after": member.not_after.isoformat(),
        },
        [
            f"peer {member.peer_id} is a member of federation {member.federation}",
            f"compare with the authority's owner: its root is {' and '.join(member.fingerprints)}",
            f"the certificate is valid until {member.not_after:%Y-%m-%d %H:%M} UTC",
        ],
    )
