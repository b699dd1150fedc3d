"""Where learning runs, and what its layers draw: a classifier's parameters say where, and its data follow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

import torch

from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_CPU: Final = torch.device("cpu")

DeviceChoice = Literal["auto", "cpu", "cuda"]


def choose_device(wanted: DeviceChoice) -> torch.device:
    """Return the device that node.toml asks for; "auto" takes CUDA where there is one.

    Raises ConfigError where CUDA is asked for and absent.
    """
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise ConfigError(
            "this machine has no CUDA device that torch can use", fix='set [node] device = "auto"'
        )
    return torch.device("cuda" if present and wanted != "cpu" else "cpu")


def mixed_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which CUDA computes layers in bfloat16; on a CPU nothing changes.

    What comes out of it may be bfloat16 and has to be made float32 before a loss.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """Seed what layers draw from, on the CPU and on `device`, and leave it as it was.

    Initial weights and dropout come from generators that the whole process shares.
    """
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        yield
