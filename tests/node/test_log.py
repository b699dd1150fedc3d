"""The log goes to standard error, and ends nothing where that cannot be written to."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import resource, sys
from qkt_node.log import configure_logging
import structlog

configure_logging("json")
log = structlog.get_logger()
log.info("before")
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
log.info("lost")
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
log.info("after")
"""


def test_a_log_without_room_ends_nothing(tmp_path: Path) -> None:
    """A line that the disk has no room for is lost; what comes later is written again."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0
    file = tmp_path / "daemon.log"
    with file.open("w") as stderr:
        subprocess.run([sys.executable, "-c", PROGRAM], stderr=stderr, check=True, timeout=60)
    assert "before" in file.read_text()
    assert "after" in file.read_text()


def test_a_warning_of_a_library_is_an_event() -> None:
    """Every line of the log is JSON, whatever makes Python warn."""
    program = (
        "import warnings; from qkt_node.log import configure_logging as c; c('json'); warnings.warn('odd')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["reason"]) == ("library_warned", "warning", "odd")


def test_a_traceback_shows_no_private_data() -> None:
    """A log travels further than data may: neither format shows what the variables of a frame held."""
    program = """
import rich, structlog  # rich first: structlog would choose its tracebacks
from qkt_node.log import configure_logging
configure_logging({log_format!r})
def fail():
    diagnosis = "patient " + str(6 * 7)
    raise ValueError("odd")
try:
    fail()
except ValueError:
    structlog.get_logger().exception("call_failed")
"""
    for log_format in ("console", "json"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(log_format=log_format)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert "ValueError: odd" in done.stderr
        assert "patient 42" not in done.stderr
