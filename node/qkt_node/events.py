"""What a running query tells its owner: that it started, how it goes on, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from qkt_p2p.errors import QktError
    from qkt_p2p.types import QueryId


@dataclass(frozen=True, slots=True)
class Started:
    """A query was taken on."""

    query_id: QueryId


@dataclass(frozen=True, slots=True)
class Ended:
    """How a query ended: the contract's JSON object, and the error where it was not accepted."""

    data: dict[str, Any]
    error: QktError | None


QueryEvent = Started | Progress | Ended


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What an owner asks for; an empty text or 0 takes the node's own setting.

    `token` names the query for its owner: asked again with it, the same query answers.
    """

    classes: tuple[str, ...]
    medium: str = ""
    deadline_seconds: float = 0.0
    seed: int = 0
    force: bool = False
    trial: bool = False
    light: bool = False
    token: str = ""
