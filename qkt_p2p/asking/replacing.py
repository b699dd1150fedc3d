"""Who takes the place of a teacher that fails, whom nobody can replace, and who is asked once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.asking.selection import teachers_needed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qkt_p2p.asking.selection import Mask, Plan
    from qkt_p2p.outcome import QueryOutcome
    from qkt_p2p.types import ClassName, PeerId


def stand_ins(
    outcome: QueryOutcome,
    plan: Plan,
    *,
    asked: Mapping[PeerId, Collection[ClassName]],
    running: Mapping[PeerId, Mask],
) -> dict[PeerId, Mask]:
    """Return further requests where classes have fewer teachers, used or `running`, than they need.

    They go to the peers of greatest evidence that nobody `asked` for the class, and to peers that were asked
    for nothing first; one that teaches other classes already is asked for these again, with the class.
    """
    hopeful = _hopeful(outcome, running)
    more: dict[PeerId, Mask] = {}

    def rank(peer: PeerId, name: ClassName) -> tuple[bool, float]:
        return peer in asked, -outcome.teachers[peer].evidence[name]

    for name in dict.fromkeys(name for mask in plan.asked.values() for name in mask):
        have = sum(name in mask for mask in hopeful.values())
        free = _free(name, plan, asked, hopeful)
        lacking = max(0, teachers_needed(outcome, name) - have)
        for peer in sorted(free, key=lambda each: rank(each, name))[:lacking]:
            # One that is at work is asked when it has ended, if it is still needed then.
            if peer not in running:
                taught = outcome.teachers[peer].classes if outcome.teachers[peer].used else ()
                more[peer] = (*more.get(peer, taught), name)
    return more


def is_needed(
    peer: PeerId,
    mask: Mask,
    *,
    outcome: QueryOutcome,
    plan: Plan,
    asked: Mapping[PeerId, Collection[ClassName]],
    running: Mapping[PeerId, Mask],
) -> bool:
    """Tell whether a class asked for would lose its quorum without `peer`, which is asked for `mask`.

    Teachers that are used or `running`, and those that could stand in, may each take its place.
    """
    hopeful = _hopeful(outcome, running)
    hopeful.pop(peer, None)
    return not _without_quorum(outcome, plan, asked, hopeful).isdisjoint(mask)


def called_back(
    outcome: QueryOutcome,
    plan: Plan,
    *,
    asked: Mapping[PeerId, Collection[ClassName]],
    running: Collection[PeerId],
    there: Mapping[PeerId, Mask],
) -> dict[PeerId, Mask]:
    """Return requests to teachers that were given up while they were away, as each was `asked` before.

    They could be replaced then. Now a class asked for would lack its quorum without them: of those `running`
    too few are `there`, and nobody is left to stand in.
    """
    lacking = _without_quorum(outcome, plan, asked, _hopeful(outcome, there))
    return {
        peer: tuple(name for name in mask if name in asked[peer])
        for peer, mask in plan.able.items()
        if peer not in running and outcome.teachers[peer].vanished and not lacking.isdisjoint(asked[peer])
    }


def _without_quorum(
    outcome: QueryOutcome,
    plan: Plan,
    asked: Mapping[PeerId, Collection[ClassName]],
    hopeful: Mapping[PeerId, Collection[ClassName]],
) -> set[ClassName]:
    """Return the classes asked for that have too few teachers, `hopeful` ones and all that could stand in."""
    return {
        name
        for name in outcome.query.classes
        if sum(name in each for each in hopeful.values()) + len(_free(name, plan, asked, hopeful))
        < outcome.query.quorum
    }


def _hopeful(outcome: QueryOutcome, running: Mapping[PeerId, Mask]) -> dict[PeerId, set[ClassName]]:
    """Return the classes of each teacher whose response is used, or may come to be."""
    hopeful = {peer: set(teacher.classes) for peer, teacher in outcome.teachers.items() if teacher.used}
    return hopeful | {peer: set(mask) for peer, mask in running.items()}


def _free(
    name: ClassName,
    plan: Plan,
    asked: Mapping[PeerId, Collection[ClassName]],
    hopeful: Collection[PeerId],
) -> list[PeerId]:
    """Return who can teach a class and was not asked for it, nor failed at another."""
    return [
        peer
        for peer, mask in plan.able.items()
        if name in mask and name not in asked.get(peer, ()) and (peer not in asked or peer in hopeful)
    ]
