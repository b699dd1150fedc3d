"""A node whose model is its owner's own module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from qkt_node.new_home import create_home
from qkt_node.settings import DataSection, ModelSection, NodeConfig
from qkt_node.worker.workbench import Workbench
from qkt_p2p.errors import ConfigError
from qkt_p2p.types import Progress, Shape


def gated(input_shape: Shape, classes: int) -> nn.Module:
    """A module whose first block no teacher takes: a gated linear unit splits its input."""
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.GLU(1), nn.Flatten(), nn.Linear(144, classes))


class Projected(nn.Module):
    """Projects at random, by a tensor that no file holds."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.projection = torch.rand(64, 64)
        self.fc = nn.Linear(64, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(inputs.flatten(1) @ self.projection)
        return logits


def projected(input_shape: Shape, classes: int) -> nn.Module:
    return Projected(classes)


def workbench(root: Path, factory: str, head: str) -> Workbench:
    return Workbench(
        create_home(root / "node")[0],
        NodeConfig(
            data=DataSection(samples_per_class=6, classes=("0", "1")),
            model=ModelSection(factory=f"{__name__}:{factory}", head=head),
        ),
    )


def test_a_stem_that_no_teacher_takes_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    """Every medium but features is left, and asking for that one by name has a reason."""
    made = workbench(tmp_path, "gated", "3")
    made.prepare(None, lambda _: None)
    with pytest.raises(ConfigError, match="uses the operator Split"):
        made.stem("features", lambda _: None)
    assert made.stem("moments", lambda _: None) == ""


def test_a_module_that_its_file_would_not_bring_back_is_not_trained(tmp_path: Path) -> None:
    """The start ends with the reason, before any work."""
    told: list[Progress] = []
    with pytest.raises(ConfigError, match="answers otherwise when it is loaded again"):
        workbench(tmp_path, "projected", "fc").prepare(None, told.append)
    assert told == []
