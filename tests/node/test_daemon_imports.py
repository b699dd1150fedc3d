"""What a daemon's process must not load, measured in a process of its own."""

import subprocess
import sys

HEAVY = ("matplotlib", "numpy", "PIL", "psutil", "rich", "scipy", "sklearn", "torch", "zeroconf")


def test_a_daemon_loads_nothing_heavy() -> None:
    """Learning, plotting and colours stay out of the process that is always there."""
    script = (
        "import sys; import qkt_node.cli.main; import qkt_node.log; import qkt_node.daemon;"
        f"print(*(name for name in {HEAVY} if sys.modules.get(name) is not None))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_rich_can_still_be_imported() -> None:
    """structlog is kept from loading it, and nobody else is."""
    script = "import qkt_node.log, structlog; import rich.progress; structlog.get_logger().info('x')"
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
