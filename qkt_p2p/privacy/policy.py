"""Who may do what with this node: rules by peer id, certified name, or certified role.

Everything that a rule looks at was certified by the federation's authority; what a caller says of
itself in a message counts for nothing. Whatever no rule allows is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.limits import MAX_NAME_CHARACTERS
from qkt_p2p.types import MEDIA, PeerId, parse_peer_id, parse_role, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Action(StrEnum):
    """What a member can want of a node."""

    MEET = "meet"
    PROBE = "probe"
    TEACH = "teach"
    FETCH_MODEL = "fetch_model"


@dataclass(frozen=True, slots=True)
class Caller:
    """A member as its verified certificate names it."""

    peer: PeerId
    name: str = ""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches callers: "*", "peer:ID", "name:PATTERN" with shell wildcards, or "role:ROLE"."""

    kind: Literal["any", "peer", "name", "role"]
    value: str = ""

    def matches(self, caller: Caller) -> bool:
        """Tell whether the rule is about `caller`."""
        match self.kind:
            case "any":
                return True
            case "peer":
                return caller.peer == self.value
            case "name":
                return fnmatchcase(caller.name, self.value)
            case "role":
                return self.value in caller.roles


EVERYBODY: Final = (Rule("any"),)
DEFAULT_RULES: Final[Mapping[Action, Sequence[Rule]]] = {
    Action.MEET: EVERYBODY,
    Action.PROBE: EVERYBODY,
    Action.TEACH: EVERYBODY,
    Action.FETCH_MODEL: (),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one node; by default members may meet, probe and be taught, and nobody fetches weights.

    `media` are those in which it teaches at all.
    """

    rules: Mapping[Action, Sequence[Rule]] = field(default_factory=lambda: DEFAULT_RULES)
    media: tuple[str, ...] = MEDIA

    def allows(self, caller: Caller, action: Action) -> bool:
        """Tell whether some rule lets `caller` do `action`."""
        return any(rule.matches(caller) for rule in self.rules.get(action, ()))

    def media_for(self, caller: Caller) -> tuple[str, ...]:
        """Return the media in which `caller` may be taught; the model itself only where it may be fetched."""
        fetches = self.allows(caller, Action.FETCH_MODEL)
        return tuple(medium for medium in self.media if medium != "weights" or fetches)

    def require(self, caller: Caller, action: Action) -> None:
        """Raise NotTrustedError, which the caller is shown, unless `action` is allowed."""
        if not self.allows(caller, action):
            raise NotTrustedError(
                f"this node's policy does not let {caller.name or 'peer'} ({short(caller.peer)}) {action}"
            )


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` writes; raises UsageError."""
    if text == "*":
        return Rule("any")
    kind, _, value = text.partition(":")
    if kind not in ("peer", "name", "role") or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        raise UsageError(
            f"{text[:80]!r} is not a rule of a policy",
            fix='write "*", "peer:ID", "name:PATTERN" or "role:ROLE"',
        )
    if kind == "peer":
        return Rule("peer", parse_peer_id(value))
    if kind == "role":
        return Rule("role", parse_role(value))
    return Rule("name", value)
