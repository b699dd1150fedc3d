"""`start`: runs the daemon in the foreground."""

from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.progress import StepBars
from qkt_node.cli.verbs import HomeOption


def start(output: Output, home: HomeOption) -> Answer:
    """Run the node in the foreground; SIGTERM, Ctrl-C or a closed terminal drains and ends it."""
    from qkt_node.log import configure_logging  # isort: skip - first, see there

    from qkt_node.allocator import reuse_buffers
    from qkt_node.config import load_config
    from qkt_node.daemon import Daemon, Ready
    from qkt_node.home import lock_home, open_home

    opened = open_home(home)
    config = load_config(opened.config_file)
    configure_logging(config.node.log_format, config.node.log_level)
    reuse_buffers()

    def tell_ready(ready: Ready) -> None:
        output.line(ready.line(), {"event": "ready", **ready.as_data()})
        for warning in ready.warnings:
            output.note(f"warning: {warning}")

    async def serve() -> Ready | None:
        # Built inside the loop, which grpc's servers belong to from their construction on.
        return await Daemon(opened, config).run(ready=tell_ready, progress=bars.show)

    with lock_home(opened), StepBars(output) as bars:
        ready = run(serve())
    return Answer(ready.as_data() if ready is not None else {}, ["stopped"])
