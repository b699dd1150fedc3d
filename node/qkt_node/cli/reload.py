"""Has a running daemon take over what a verb put into its home's identity/."""

from pathlib import Path

from qkt_node.cli.awaiting import run
from qkt_p2p.errors import NotRunningError


def reload_daemon(home: Path) -> str:
    """Return one sentence on whether the home's daemon knows, and acts on, what is new."""
    from qkt_node.control.client import connect
    from qkt_node.home import Home

    found = Home(home.absolute())

    async def ask() -> str:
        async with connect(found) as client:
            return (await client.reload_trust()).peer_id

    try:
        peer = run(ask())
    except NotRunningError:
        return "the daemon does not run: what is new holds from its start on"
    return f"the running daemon acts on it, as peer {peer}"
