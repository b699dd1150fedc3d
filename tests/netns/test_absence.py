"""What a test run says where no networks can be made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def test_tests_that_cannot_run_are_counted_with_the_reason(tmp_path: Path) -> None:
    """Without the command ip, the closing summary says how many tests did not run, and what to install."""
    here = Path(__file__).parent
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    run = subprocess.run(
        [*pytest, str(here / "test_first_contact.py"), str(here / "test_liveness.py")],
        cwd=here.parents[1],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    told = re.search(r"(\d+) TESTS BETWEEN HOSTS DID NOT RUN", run.stdout)
    assert told is not None
    assert f"{told[1]} skipped" in run.stdout
    assert "apt-get install iproute2" in run.stdout
