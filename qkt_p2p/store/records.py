"""The rows that leave the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from qkt_p2p.types import ClassName, PeerId, QueryId

QueryState = Literal["running", "resumed", "accepted", "refused", "failed", "cancelled", "interrupted"]
"""How a query stands; "resumed" ones go on after their daemon died, "interrupted" ones could not."""

UNDER_WAY: Final[tuple[QueryState, ...]] = ("running", "resumed")
"""States of queries that have not ended."""


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """One query; `started_at` in seconds since 1970 UTC.

    `token` and `options_json` are what its owner gave, `token` "" for none. While it is under way `kept_json`
    is what is needed to go on, and `attempts` counts how often it began since it last finished a step; when
    it has ended, `result_json` is what its owner was told, and `error_json` why it was not accepted.
    """

    query_id: QueryId
    classes: tuple[ClassName, ...]
    state: QueryState
    step: str
    started_at: float
    result_json: str = ""
    error_json: str = ""
    token: str = ""
    options_json: str = ""
    kept_json: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One model version.

    `parent` is 0 and `query_id` empty for a model that no query brought; `created_at` in seconds since
    1970 UTC; `file` is a name under models/ and `sha256` the hexadecimal digest of its content.
    """

    version: int
    parent: int
    created_at: float
    known_classes: tuple[ClassName, ...]
    query_id: str
    file: str
    sha256: str
    metadata_json: str


@dataclass(frozen=True, slots=True)
class RollbackRecord:
    """`version` was made current again in place of `replaced`; the time in seconds since 1970 UTC."""

    rolled_back_at: float
    replaced: int
    version: int


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """One peer that this node spoke with; `last_seen_at` in seconds since 1970 UTC, for display only."""

    peer: PeerId
    node_name: str
    addresses: tuple[str, ...]
    found_by: str
    last_seen_at: float
