"""The program of a node whose cluster is in for faults: the daemon itself, which lies when it is told to.

`python -m qkt_node.cluster.chaos.node start --home HOME` runs it, as `qkt-node start` runs an honest one.
Whoever may open HOME/chaos.sock tells it what to lie, and is told what it holds: one JSON object a line, both
ways.
"""

from qkt_node.log import configure_logging  # isort: skip - first, see there

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkt_node.cluster.chaos.lies import Lie, LyingHandler
from qkt_node.cluster.chaos.memory import used_blocks, used_mebibytes
from qkt_node.config import load_config
from qkt_node.daemon import Daemon
from qkt_node.home import lock_home, open_home

if TYPE_CHECKING:
    from qkt_node.daemon import Ready
    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig
    from qkt_p2p.transport.handler import PeerHandler
    from qkt_p2p.types import Progress


def chaos_socket(home: "Home") -> Path:
    """Return where such a node is told what to lie."""
    return home.root / "chaos.sock"


async def tell(home: "Home", lie: Lie | None) -> None:
    """Have a node tell this lie from now on, None: the truth."""
    await _call(home, {"lie": [lie.kind, lie.chunk] if lie is not None else None})


async def holdings_of(home: "Home") -> dict[str, float]:
    """Return what only a node itself can count: `used` MiB and `blocks` of memory, and `tasks`."""
    return await _call(home, {})


async def _call(home: "Home", request: dict[str, Any]) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(chaos_socket(home))
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
    finally:
        writer.close()
    return answer


class _Liar:
    """The node's answers to its peers, and what to do to them."""

    def __init__(self) -> None:
        self._handler: LyingHandler | None = None

    def between(self, honest: "PeerHandler") -> "PeerHandler":
        """Return what answers in place of `honest`."""
        self._handler = LyingHandler(honest)
        return self._handler

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what one line says, and answer it."""
        request = json.loads(await reader.readline())
        if "lie" in request and self._handler is not None:
            self._handler.lie = Lie(*request["lie"]) if request["lie"] else None
        # But for the task that counts.
        tasks = len(asyncio.all_tasks()) - 1
        held = {"used": used_mebibytes(), "blocks": used_blocks(), "tasks": tasks}
        writer.write(json.dumps(held).encode() + b"\n")
        await writer.drain()
        writer.close()


async def _serve(home: "Home", config: "NodeConfig") -> None:
    liar = _Liar()
    socket = chaos_socket(home)
    socket.unlink(missing_ok=True)
    async with await asyncio.start_unix_server(liar.listen, socket):
        await Daemon(home, config, answering=liar.between).run(ready=_unheard, progress=_unheard)


def _unheard(told: "Ready | Progress") -> None:
    del told


def main() -> None:
    """Run until SIGTERM."""
    home = open_home(Path(sys.argv[-1]))
    config = load_config(home.config_file)
    configure_logging(config.node.log_format, config.node.log_level)
    with lock_home(home):
        asyncio.run(_serve(home, config))


if __name__ == "__main__":
    main()
