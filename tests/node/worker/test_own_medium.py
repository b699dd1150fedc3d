"""Which media a node can ask in hangs on what teachers take of its model."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from qkt_node.new_home import create_home
from qkt_node.settings import DataSection, ModelSection, NodeConfig
from qkt_node.worker.workbench import Workbench
from qkt_p2p.errors import ConfigError
from qkt_p2p.types import Shape


def gated(input_shape: Shape, classes: int) -> nn.Module:
    """A module whose first block no teacher takes: a gated linear unit splits its input."""
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.GLU(1), nn.Flatten(), nn.Linear(144, classes))


def test_a_stem_that_no_teacher_takes_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    """Every medium but features is left, and asking for that one by name has a reason."""
    home = create_home(tmp_path / "node")[0]
    config = NodeConfig(
        data=DataSection(samples_per_class=6, classes=("0", "1")),
        model=ModelSection(factory=f"{__name__}:gated", head="3"),
    )
    workbench = Workbench(home, config)
    workbench.prepare(None, lambda _: None)
    with pytest.raises(ConfigError, match="uses the operator Split"):
        workbench.stem("features", lambda _: None)
    assert workbench.stem("moments", lambda _: None) == ""
