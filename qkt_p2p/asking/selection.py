"""Masks become requests: which teacher is asked for what, and which are left when all have answered."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import BudgetSpentError, PeerError, UnknownClassError
from qkt_p2p.masking.masks import mask_of, teacher_weights
from qkt_p2p.types import LIGHT_TEACHERS, MEDIA, LearningTask

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
    from qkt_p2p.types import ClassName, PeerId, StudentModel, TeachRequest

    Mask = tuple[ClassName, ...]


_NEARLY: Final = 0.9
"""Share of the greatest evidence of an own class with which another one teaches it in a light query, too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The `request` to each teacher, but for its classes: who is `asked` for which at first.

    `able` is what each can teach in the query's medium, should another one fail.
    """

    request: TeachRequest
    asked: Mapping[PeerId, Mask]
    able: Mapping[PeerId, Mask]


def choose_teachers(outcome: QueryOutcome, model: StudentModel) -> dict[PeerId, Mask]:
    """Return what to ask of whom: each peer's mask m[t], cut to Q and what the student has learned.

    Raises UnknownClassError, naming the classes that peers do know, where nobody can teach one of Q, and
    PeerError where fewer can than the query's quorum.
    """
    query = outcome.query
    wanted = {*query.classes, *model.local, *model.known, *model.trained}
    requests: dict[PeerId, Mask] = {}
    for teacher in outcome.teachers.values():
        teacher.classes = _known_and_teachable(teacher, wanted)
        if teacher.classes:
            requests[teacher.peer] = teacher.classes
        elif not teacher.reason:
            teacher.reason = "teaches none of the classes wanted"
    able = {name: sum(name in mask for mask in requests.values()) for name in query.classes}
    missing = [name for name, count in able.items() if not count]
    if missing:
        raise _unknown(missing, outcome)
    short_of = [f"{name} ({count})" for name, count in able.items() if count < query.quorum]
    if short_of:
        raise PeerError(
            f"each class must have {query.quorum} teachers, and fewer live peers teach {', '.join(short_of)}",
            fix="lower [learning] quorum in node.toml, or ask when more peers are live: qkt-node peers",
        )
    return requests


def evidence_suffices(outcome: QueryOutcome) -> bool:
    """Tell whether the peers that have answered can teach each query class, all in one of the media."""
    teachers = outcome.teachers.values()
    masks = {each.peer: _known_and_teachable(each, outcome.query.classes) for each in teachers}
    return any(_teachers_in(medium, outcome, masks) for medium in outcome.query.media)


def _known_and_teachable(teacher: TeacherOutcome, wanted: Collection[ClassName]) -> Mask:
    known = mask_of(teacher.evidence, wanted=wanted)
    return tuple(name for name in teacher.teachable if name in known)


def best_teachers(
    outcome: QueryOutcome, requests: Mapping[PeerId, Mask], model: StudentModel
) -> dict[PeerId, Mask]:
    """Return the requests of a light query: each class is left to the few teachers of greatest evidence.

    For what the student has no data of these are as many as the quorum, one otherwise; for its own classes
    nobody. In `features`, which are for data that are hard to describe, they are LIGHT_TEACHERS at least, and
    for each of its own classes the best one, and the next where its evidence is nearly as great.
    """
    hard = outcome.medium == "features"
    own = set(model.local) - set(outcome.query.classes)

    def best(name: ClassName) -> list[PeerId]:
        evidence = {
            peer: outcome.teachers[peer].evidence[name] for peer in requests if name in requests[peer]
        }
        ranked = sorted(evidence, key=lambda peer: -evidence[peer])
        if name not in own:
            return ranked[: max(LIGHT_TEACHERS if hard else 1, teachers_needed(outcome, name))]
        if not hard:
            return []
        nearly = _NEARLY * evidence[ranked[0]]
        return [peer for peer in ranked[:LIGHT_TEACHERS] if evidence[peer] >= nearly]

    chosen: dict[PeerId, set[ClassName]] = {}
    for name in {name for mask in requests.values() for name in mask}:
        for peer in best(name):
            chosen.setdefault(peer, set()).add(name)
    for peer in requests.keys() - chosen.keys():
        outcome.teachers[peer].reason = "others know better what is wanted, and the query is light"
    return {
        peer: tuple(n for n in mask if n in chosen[peer]) for peer, mask in requests.items() if peer in chosen
    }


def alike(one: TeacherOutcome, other: TeacherOutcome) -> bool:
    """Tell whether two teachers seem to hold the same model: equal evidence to the last digit.

    Evidence that is 0 or 1 alone tells nothing: many models are as sure.
    """
    telling = any(0.0 < value < 1.0 for value in one.evidence.values())
    return one.peer != other.peer and telling and dict(one.evidence) == dict(other.evidence)


def teachers_needed(outcome: QueryOutcome, name: ClassName) -> int:
    """Return how many teachers a class must have; one for what is only not to be forgotten."""
    return outcome.query.quorum if name in outcome.query.classes else 1


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


def teachers_in_medium(outcome: QueryOutcome, requests: Mapping[PeerId, Mask]) -> dict[PeerId, Mask]:
    """Return the requests to those who teach in the medium that was chosen."""
    willing = _teachers_in(outcome.medium, outcome, requests)
    for peer in requests.keys() - willing:
        outcome.teachers[peer].reason = f"does not teach in the medium {outcome.medium}"
    return {peer: mask for peer, mask in requests.items() if peer in willing}


def _teachers_in(
    medium: str, outcome: QueryOutcome, requests: Mapping[PeerId, Sequence[ClassName]]
) -> set[PeerId]:
    """Return who teaches in a medium; nobody where a query class lacks its quorum in it."""
    query = outcome.query
    willing = {peer for peer in requests if medium in outcome.teachers[peer].media}
    counts = (sum(name in requests[peer] for peer in willing) for name in query.classes)
    return willing if min(counts) >= query.quorum else set()


def require_teachers(outcome: QueryOutcome) -> None:
    """Raise PeerError where a query class has fewer teachers left than the quorum.

    That is BudgetSpentError where all who could have taught one did not for their privacy budgets.
    """
    query = outcome.query
    lost = [name for name, count in outcome.taught_by.items() if count < query.quorum]
    if not lost:
        return
    teachers = outcome.teachers.values()
    reasons = [f"{teacher.name}: {teacher.reason}" for teacher in teachers if teacher.reason]
    spent = [teacher for teacher in teachers if teacher.spent or set(teacher.withheld) & set(lost)]
    reasons += [
        f"{teacher.name}: its privacy budget of {', '.join(teacher.withheld)} is spent"
        for teacher in spent
        if not teacher.reason
    ]
    left = "no teacher is" if query.quorum == 1 else f"fewer than {query.quorum} teachers are"
    message = f"{left} left for {', '.join(lost)} ({'; '.join(reasons)})"
    if spent and all(each in spent for each in teachers if set(each.teachable) & set(lost)):
        raise BudgetSpentError(message, fix="ask their owners, who see it with `qkt-node budget`")
    raise PeerError(message, fix="qkt-node peers")


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
        why = f": {'; '.join(outcome.unreached)}" if outcome.unreached else ""
        return UnknownClassError(f"there is no live peer to ask{why}", fix="qkt-node peers")
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
