"""Has the oracle computed in a process of its own: this one stays free of torch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from qkt_p2p.errors import QktError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_node.cluster.layout import ClusterFolder


def ask_oracle(
    folder: ClusterFolder, name: str, *, classes: Sequence[str], medium: str, seed: int
) -> dict[str, float | None]:
    """Return accuracies by class after the same training on the teachers' real data; raises QktError."""
    module = "qkt_node.cluster.oracle"
    arguments = (str(folder.root), name, ",".join(classes), medium, str(seed))
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise QktError(f"the oracle failed with exit code {done.returncode}: {last}")
    accuracies: dict[str, float | None] = json.loads(done.stdout)
    return accuracies
