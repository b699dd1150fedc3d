"""Masks become requests: which teacher is asked for what, and which are left when all have answered."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from qkt_p2p.errors import PeerError, UnknownClassError
from qkt_p2p.masking.masks import mask_of, teacher_weights
from qkt_p2p.types import MEDIA, LearningTask

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qkt_p2p.outcome import QueryOutcome
    from qkt_p2p.types import ClassName, PeerId, StudentModel


def choose_teachers(outcome: QueryOutcome, model: StudentModel) -> dict[PeerId, tuple[ClassName, ...]]:
    """Return what to ask of whom: each peer's mask m[t], cut to Q and the classes that the student knows.

    A light query leaves out what the student has data of. Raises UnknownClassError, naming the classes that
    peers do know, where nobody can teach one of Q.
    """
    query = outcome.query
    wanted = (
        {*query.classes, *model.known} - set(model.local) if query.light else {*model.local, *model.known}
    )
    wanted |= set(query.classes)
    requests: dict[PeerId, tuple[ClassName, ...]] = {}
    for teacher in outcome.teachers.values():
        known = mask_of(teacher.evidence, wanted=wanted)
        teacher.classes = tuple(name for name in teacher.classes if name in known)
        if teacher.classes:
            requests[teacher.peer] = teacher.classes
        elif not teacher.reason:
            teacher.reason = "teaches none of the classes wanted"
    taught = {name for mask in requests.values() for name in mask}
    missing = [name for name in query.classes if name not in taught]
    if missing:
        raise _unknown(missing, outcome)
    return requests


def best_teachers(
    outcome: QueryOutcome, requests: Mapping[PeerId, Sequence[ClassName]]
) -> dict[PeerId, tuple[ClassName, ...]]:
    """Return the requests of a light query: each class is left to the teacher of greatest evidence alone."""

    def best(name: ClassName) -> PeerId:
        holders = [peer for peer in requests if name in requests[peer]]
        return max(holders, key=lambda peer: outcome.teachers[peer].evidence[name])

    chosen: dict[PeerId, tuple[ClassName, ...]] = {}
    for name in dict.fromkeys(name for mask in requests.values() for name in mask):
        chosen[best(name)] = (*chosen.get(best(name), ()), name)
    for peer in requests.keys() - chosen.keys():
        outcome.teachers[peer].reason = "another teacher shows more evidence, and the query is light"
    return chosen


def shared_media(
    outcome: QueryOutcome, requests: Mapping[PeerId, Sequence[ClassName]], media: Sequence[str]
) -> list[str]:
    """Return those of `media` in which every query class has a teacher, in the same order.

    Raises UnknownClassError where there is none.
    """
    query = outcome.query
    if shared := [medium for medium in media if _teachers_in(medium, outcome, requests)]:
        return shared
    other = next((medium for medium in MEDIA if _teachers_in(medium, outcome, requests)), "")
    raise UnknownClassError(
        f"peers know {', '.join(query.classes)}, but do not teach in the medium {' or '.join(query.media)}",
        fix=f"--medium {other}" if other else "qkt-node peers",
    )


def teachers_in_medium(
    outcome: QueryOutcome, requests: Mapping[PeerId, tuple[ClassName, ...]]
) -> dict[PeerId, tuple[ClassName, ...]]:
    """Return the requests to those who teach in the medium that was chosen."""
    willing = _teachers_in(outcome.medium, outcome, requests)
    for peer in requests.keys() - willing:
        outcome.teachers[peer].reason = f"does not teach in the medium {outcome.medium}"
    return {peer: mask for peer, mask in requests.items() if peer in willing}


def _teachers_in(
    medium: str, outcome: QueryOutcome, requests: Mapping[PeerId, Sequence[ClassName]]
) -> set[PeerId]:
    """Return who teaches in a medium; nobody where a query class has no teacher in it."""
    willing = {peer for peer in requests if medium in outcome.teachers[peer].media}
    taught = {name for peer in willing for name in requests[peer]}
    return willing if taught.issuperset(outcome.query.classes) else set()


def require_teachers(outcome: QueryOutcome) -> None:
    """Raise PeerError where a query class has lost all its teachers."""
    taught = {name for teacher in outcome.teachers.values() if teacher.used for name in teacher.classes}
    lost = [name for name in outcome.query.classes if name not in taught]
    if lost:
        reasons = "; ".join(f"{t.name}: {t.reason}" for t in outcome.teachers.values() if t.reason)
        raise PeerError(f"no teacher is left for {', '.join(lost)} ({reasons})", fix="qkt-node peers")


def learning_task(outcome: QueryOutcome) -> LearningTask:
    """Return what was collected, and set each teacher's weight: its mean share over the query classes."""
    used = {teacher.peer: teacher for teacher in outcome.teachers.values() if teacher.used}
    evidence = {
        peer: {name: teacher.evidence[name] for name in teacher.classes} for peer, teacher in used.items()
    }
    weights = teacher_weights(evidence)
    classes = outcome.query.classes
    for peer, teacher in used.items():
        teacher.weight = sum(weights[peer].get(name, 0.0) for name in classes) / len(classes)
    return LearningTask(outcome.query, evidence, outcome.medium)


def _unknown(missing: Sequence[ClassName], outcome: QueryOutcome) -> UnknownClassError:
    if not outcome.teachers:
        return UnknownClassError("there is no live peer to ask", fix="qkt-node peers")
    known = sorted({name for teacher in outcome.teachers.values() for name in mask_of(teacher.evidence)})
    failed = [
        f"{t.name} failed: {t.reason}" for t in outcome.teachers.values() if not t.evidence and t.reason
    ]
    names = ", ".join(repr(name) for name in missing)
    found = f"no live peer can teach {names}; live peers know: {', '.join(known) or 'nothing'}"
    return UnknownClassError("; ".join([found, *failed]), fix=_suggestion(missing, known))


def _suggestion(missing: Sequence[ClassName], known: Collection[ClassName]) -> str:
    spelled = {name.casefold(): name for name in known}
    for name in missing:
        close = get_close_matches(name.casefold(), spelled, n=1)
        if close:
            return f"did you mean {spelled[close[0]]!r}?"
    return "qkt-node peers"
