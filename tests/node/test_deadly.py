"""Orders in which the worker dies: counted, refused for a while, and forgiven."""

from __future__ import annotations

import pytest

from qkt_node.deadly import DeadlyOrders
from qkt_p2p.errors import PeerRefusedError, QktError, WorkerDiedError
from qkt_p2p.limits import DEADLY_ORDER_SECONDS
from qkt_p2p.types import Progress
from tests.clock import Clock

DEATH = WorkerDiedError("signal 9")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deadly(clock: Clock) -> DeadlyOrders:
    return DeadlyOrders(clock=clock)


def die(deadly: DeadlyOrders, order: str, *, error: QktError = DEATH, begun: bool = True) -> None:
    with deadly.watched(order) as progress:
        if begun:
            progress(Progress("probe", 0, 0, "started"))
        raise error


def succeed(deadly: DeadlyOrders, order: str) -> None:
    with deadly.watched(order):
        pass


def die_twice(deadly: DeadlyOrders, order: str) -> None:
    with pytest.raises(WorkerDiedError):
        die(deadly, order)
    with pytest.raises(PeerRefusedError):
        die(deadly, order)


def test_after_a_while_it_is_tried_again(deadly: DeadlyOrders, clock: Clock) -> None:
    """Memory may be there by then; where it is not, two more deaths are needed."""
    die_twice(deadly, "much")
    clock.now = DEADLY_ORDER_SECONDS - 1
    with pytest.raises(PeerRefusedError):
        succeed(deadly, "much")
    clock.now = DEADLY_ORDER_SECONDS
    die_twice(deadly, "much")


def test_a_success_is_forgiven(deadly: DeadlyOrders) -> None:
    """What died once, and then went through, begins to be counted anew."""
    with pytest.raises(WorkerDiedError):
        die(deadly, "much")
    succeed(deadly, "much")
    die_twice(deadly, "much")


@pytest.mark.parametrize(("error", "begun"), [(DEATH, False), (QktError("full disk"), True)])
def test_what_is_not_to_blame_is_not_counted(deadly: DeadlyOrders, error: QktError, begun: bool) -> None:
    """An order that waited behind another, and one that failed without a death."""
    for _ in range(3):
        with pytest.raises(type(error)):
            die(deadly, "little", error=error, begun=begun)
    succeed(deadly, "little")


def test_only_some_are_remembered(deadly: DeadlyOrders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer can think of as many as it likes."""
    monkeypatch.setattr("qkt_node.deadly._REMEMBERED", 2)
    for order in ("first", "second", "third"):
        die_twice(deadly, order)
    succeed(deadly, "first")
    with pytest.raises(PeerRefusedError):
        succeed(deadly, "third")
