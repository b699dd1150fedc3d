"""Commands that start others end like by Ctrl-C, whoever ends them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from qkt_node.cli.signals import ending_like_interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hangup() -> Iterator[None]:
    """A closed terminal means afterwards what it meant before."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
def test_a_closed_terminal_ends_a_command_but_under_nohup() -> None:
    """What nohup has ignored stays so: the command goes on, as it was started to."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with pytest.raises(KeyboardInterrupt), ending_like_interrupt():
        signal.raise_signal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ending_like_interrupt():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
