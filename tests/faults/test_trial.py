"""Which ends of a query on a cluster break a rule, and that what daemons hold is compared."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import pytest

from qkt_node.cluster.chaos.leaks import ROOM, Holdings, leaked
from qkt_node.cluster.chaos.schedule import Fault, Schedule
from qkt_node.cluster.chaos.soak import Leak, Soak
from qkt_node.cluster.chaos.trial import TrialEnd, problems_of, raise_unless_usable
from qkt_p2p.errors import QktError

USUAL = TrialEnd(
    Schedule(1, (Fault("probe", 0.0, "node-2", "kill", {}, 0.0),)),
    "accepted",
    "",
    4.0,
    0.0,
    {
        "classes": ["1"],
        "accuracy": {"1": {"after": 0.75}, "2": {"after": 0.5}},
        "masks": {"aa": {"1": 0.5}, "bb": {"1": 0.75}},
        "peer_names": {"aa": "node-2", "bb": "node-3"},
        "teachers": [
            {"name": name, "classes": ["1"], "samples": 100, "digest": "00ff", "used": True, "reason": ""}
            for name in ("node-2", "node-3")
        ],
    },
)


def changed(*path: str | int, to: object) -> TrialEnd:
    """Return the usual end with one entry of its data replaced."""
    data: Any = deepcopy(USUAL.data)
    *way, last = path
    found = data
    for step in way:
        found = found[step]
    found[last] = to
    return replace(USUAL, data=data)


GOOD = {
    "as usual": USUAL,
    "one teacher less, and another model": replace(
        changed("teachers", 0, "used", to=False),
        data=changed("teachers", 0, "used", to=False).data | {"accuracy": {}},
    ),
    "a teacher that was not probed": changed("masks", "aa", to={}),
    "a failure with its reason": replace(USUAL, state="failed", reason="no teacher is left for 1"),
    "a full disk": replace(USUAL, state="failed", reason="phase1 failed: OSError: [Errno 28] No space left"),
    "an end right after its deadline": replace(USUAL, late=1.9),
}
BAD = {
    "another accuracy": (
        changed("accuracy", "1", "after", to=0.8),
        "accuracy on 1 is 0.8, of the same lessons 0.75",
    ),
    "a class that is not measured": (changed("accuracy", to={"1": {"after": 0.75}}), "accuracy on 2 is None"),
    "other evidence": (changed("masks", "bb", to={"1": 0.7}), "evidence of node-3 differs"),
    "another response": (changed("teachers", 1, "digest", to="99"), "node-3 taught .*'99'.*usually .*'00ff'"),
    "nobody taught it": (changed("classes", to=["9"]), "nobody taught a class"),
    "no reason": (replace(USUAL, state="failed"), "without a reason"),
    "late": (replace(USUAL, late=2.1), "2.1 s after its deadline"),
    "hangs": (replace(USUAL, state="hangs", reason="no end"), "ended as hangs: no end"),
    "cannot go on": (replace(USUAL, state="interrupted", reason="no room"), "ended as interrupted: no room"),
    "a bug of the worker": (
        replace(USUAL, state="failed", reason="phase1 failed: AssertionError: twice"),
        "it broke: phase1 failed",
    ),
    "a bug": (replace(USUAL, state="failed", reason="the query failed: KeyError()"), "it broke: .*KeyError"),
}


@pytest.mark.parametrize("end", GOOD.values(), ids=GOOD.keys())
def test_ends_that_break_no_rule(end: TrialEnd) -> None:
    """Whatever befell it, a query may end so."""
    assert problems_of(end, USUAL, left=[]) == ()


@pytest.mark.parametrize(("end", "told"), BAD.values(), ids=BAD.keys())
def test_ends_that_break_a_rule(end: TrialEnd, told: str) -> None:
    """Each is found, and named."""
    (problem,) = problems_of(end, USUAL, left=[])
    assert re.search(told, problem), problem


def test_what_a_query_leaves_behind() -> None:
    """A candidate that is still there is a broken rule."""
    assert problems_of(USUAL, USUAL, left=["candidate-x"]) == ("it left candidate-x behind",)


def test_a_query_that_fails_without_faults_proves_nothing() -> None:
    """Then there is nothing to compare with."""
    raise_unless_usable(USUAL)
    with pytest.raises(QktError, match="without any fault the query ended as refused: worse"):
        raise_unless_usable(replace(USUAL, state="refused", reason="worse"))


def test_what_leaks() -> None:
    """Up to some room nothing is said; beyond it what grew, and by how much."""
    before = Holdings(70.0, 10.0, 200_000, 20, 10, 20)
    room = Holdings(**{name: value + asdict(ROOM)[name] for name, value in asdict(before).items()})
    assert leaked(before, room) == []
    assert leaked(before, replace(room, tasks=room.tasks + 1, used=14.5)) == [
        "4.5 used more",
        f"{ROOM.tasks + 1} tasks more",
    ]


def test_a_soak_counts() -> None:
    """Ends by kind of fault, broken schedules, and daemons that grew."""
    before, after = Holdings(1, 1, 1, 1, 1, 1), Holdings(99, 1, 1, 1, 1, 1)
    leak = Leak("node-1", 2, before, before, after, ("98 mebibytes more",))
    soak = Soak([USUAL, replace(USUAL, state="failed", problems=("late",), late=3.21)], [leak])
    assert soak.by_kind() == {"kill": {"accepted": 1, "failed": 1}}
    assert (len(soak.broken), soak.grown) == (1, [leak])
    data = soak.as_data()
    assert (data["ends"], data["latest"], data["broken"]) == ({"accepted": 1, "failed": 1}, 3.21, 1)
    assert data["schedules"][0]["teachers"] == {"node-2": "used", "node-3": "used"}
