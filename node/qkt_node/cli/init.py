"""`init`: makes a node's home."""

from typing import Annotated

import typer

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command


def init(
    output: Output,
    home: HomeOption,
    name: Annotated[str, typer.Option(help="Name of the node; by default the directory's.")] = "",
) -> Answer:
    """Make a node's home: settings, key, certificate request."""
    from qkt_node.new_home import create_home
    from qkt_p2p.identity.trust import IdentityFiles

    made, peer = create_home(home, name)
    request = IdentityFiles(made.identity).request
    return Answer(
        {"home": str(made.root), "peer_id": peer, "config": str(made.config_file), "request": str(request)},
        [
            f"made the home {made.root} of peer {peer}",
            f"edit {made.config_file}: the data, where to listen, whom to dial",
            f"next, at the federation's authority: {command('ca', 'sign', request, '--home', 'CA_DIR')}",
        ],
    )
